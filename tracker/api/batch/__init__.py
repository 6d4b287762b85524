"""`/$batch`: many requests in one."""
