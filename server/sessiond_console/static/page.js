// Small conveniences: the theme is set when it is chosen, everything can be unfolded at once, and the
// exact bytes of a message can be copied.

export function setUpPage() {
  const theme = document.getElementById("theme");
  theme?.addEventListener("change", () => theme.form.requestSubmit());
  for (const element of document.querySelectorAll("[data-hide-with-script]")) element.hidden = true;
  for (const element of document.querySelectorAll("[data-copy], [data-unfold-all]")) element.hidden = false;
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) copyFrom(copy);
    if (event.target.closest("[data-unfold-all]")) unfoldAll();
  });
  // A double click sends a form only once. Even a second request would be harmless, because it
  // would have the same request_id.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.defaultPrevented) return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
}

export function unfoldAll() {
  const all = [...document.querySelectorAll("#messages details")];
  const open = all.some((one) => !one.open);
  for (const one of all) one.open = open;
}

async function copyFrom(button) {
  const before = button.textContent;
  try {
    const response = await fetch(button.dataset.copy);
    if (!response.ok) throw new Error(String(response.status));
    await navigator.clipboard.writeText(await response.text());
    button.textContent = "Copied";
  } catch {
    button.textContent = "Could not copy";
  }
  setTimeout(() => (button.textContent = before), 2000);
}
