"""Pods as a Kubernetes API server knows them: listed, then watched."""
