"""A trained model behind HTTP: an endpoint for programs and a page for people.

Importing its modules does not import torch. Starlette and uvicorn are an extra of the package.
"""
