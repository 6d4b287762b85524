"""The batch, `/$batch`: many requests in one."""
