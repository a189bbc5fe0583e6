// Paper is white, and nobody can open anything on it: print in the light theme, with hints and
// answers open, whatever the screen has.
(() => {
  let theme;
  let opened = [];
  addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    opened = [...document.querySelectorAll("details.sd-dropdown:not([open])")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    document.documentElement.dataset.theme = theme;
    for (const each of opened) each.open = false;
  });
})();

// The search shows a few lines of each page that it finds, for which it reads the page. Browsers do
// not let it when the book is opened from the disk.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
