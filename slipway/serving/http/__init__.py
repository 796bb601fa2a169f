"""The predictor's HTTP face: an ASGI application, its OpenAPI document, its page."""
