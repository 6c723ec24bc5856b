"""Keeps the pools' pods and their signals current: discovery sources, scrapes, Envoy's endpoints file."""
