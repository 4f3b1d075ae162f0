// What the reader chose, kept in this browser where it lets us.
export function read(key, fallback) {
  try {
    return localStorage.getItem(`meadow-${key}`) ?? fallback;
  } catch {
    return fallback;
  }
}

export function write(key, value) {
  try {
    localStorage.setItem(`meadow-${key}`, value);
  } catch {
    // It holds for this page only.
  }
}
