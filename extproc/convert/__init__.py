"""Configurations of other routers, made into one of this gateway's, with a note on each thing that is not the same."""
