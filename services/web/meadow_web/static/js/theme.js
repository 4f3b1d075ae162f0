// Loaded before the first paint, so that the chosen theme never flashes.
try {
  const theme = localStorage.getItem("meadow-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is closed to us: the system's theme it is.
}
