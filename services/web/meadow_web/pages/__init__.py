"""One module for each page: its route, what it loads, when it changes."""
