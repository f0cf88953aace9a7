"""Tables: from a file over tracked runs to cells, and from cells to text, Markdown, CSV, LaTeX and HTML."""
