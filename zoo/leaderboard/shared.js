  const SVG = "http://www.w3.org/2000/svg";
  const root = document.documentElement;

  // Values from results are inserted as text or attribute values, never as markup.
  function el(tag, attributes = {}, ...children) {
    const svg = tag === "svg" || tag === "path";
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children.filter((c) => c !== null));
    return node;
  }

  // ---- colors
  const themeButton = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("zoo-theme"); } catch { /* pages from files may have no storage */ }
  function paint() {
    const dark = chosen ? chosen === "dark" : prefersDark.matches;
    root.dataset.theme = dark ? "dark" : "light";
    themeButton.textContent = dark ? "Light" : "Dark";
    themeButton.setAttribute("aria-pressed", String(dark));
  }
  themeButton.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("zoo-theme", chosen); } catch { /* kept for this visit only */ }
    paint();
  });
  prefersDark.addEventListener("change", paint);
  paint();

  function copyButton(code) {
    const button = el("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(code.textContent); button.textContent = "Copied"; } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    return button;
  }
