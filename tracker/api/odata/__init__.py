"""OData's query options: their parsers, the next page of a list, and the text of a condition."""
