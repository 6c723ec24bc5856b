"""The plugins that come with the scheduler, one a file. They do not know each other."""
