"""trionet."""
