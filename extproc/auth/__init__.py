"""Who may use the gateway: bearer tokens (JWT), checked against the key sets of the configured issuers."""
