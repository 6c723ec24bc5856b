"""The admin port: health, metrics, the page, `explain`, and the client `top`."""
