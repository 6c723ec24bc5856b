"""State of the pods: their addresses, the reports of their engines, the requests that this gateway sent them.

The store and everything that reads a metrics page are pure; `discovery` and `scrape` are the shells that do I/O.
"""
