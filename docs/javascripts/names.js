/* The theme gives the dialog of the search no name. */
document.querySelectorAll(".md-search").forEach(one => one.setAttribute("aria-label", "Search"))
