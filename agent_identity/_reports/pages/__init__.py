"""Pages: one self-contained HTML file for each answer, with pictures in SVG; presentation of results, no new facts."""
