"""One room per framework, each imported by its full path; nothing of the library imports them."""
