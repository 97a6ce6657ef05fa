/* The theme gives the dialog of the search no name. */
document.querySelectorAll(".md-search").forEach(one => one.setAttribute("aria-label", "Search"))
/* Nor can a wide table be scrolled with the keys. The theme wraps tables after this has run. */
new MutationObserver(() => document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach(one => {
  one.tabIndex = 0
  one.setAttribute("role", "region")
  one.setAttribute("aria-label", "Table")
})).observe(document.body, { childList: true, subtree: true })
