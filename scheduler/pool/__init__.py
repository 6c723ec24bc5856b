"""What is known of the pods: who they are, what their engines report, what this gateway has sent them.

The store and everything that reads a metrics page are pure; `discovery` and `scrape` are the shells that do I/O.
"""
