"""The web page: a front end over the library, for one person or a small team on one machine."""
