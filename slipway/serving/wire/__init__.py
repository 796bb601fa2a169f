"""The forms that requests and answers come in: one module a form, none of which knows of HTTP."""
