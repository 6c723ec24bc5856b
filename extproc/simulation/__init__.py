"""Replays of traffic by discrete events: the gateway's own code over modelled engines, without sockets or a clock."""
