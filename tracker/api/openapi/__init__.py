"""What the API says of itself: OpenAPI, CSDL, and a page."""
