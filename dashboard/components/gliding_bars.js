// Streamlit makes a chart anew when its numbers change, so its bars would jump. Each bar glides from where the chart of
// the same key had it before; the numbers beside it are right from the start. A visitor who asks for less motion sees
// none.
window.semfreezeBars ??= (() => {
  const GLIDE_MS = 300
  const before = new Map() // outlines of a chart's bars, by its key
  const less = matchMedia("(prefers-reduced-motion: reduce)")
  let due = false

  function look() {
    due = false
    for (const layer of document.querySelectorAll("[class*=st-key-] .barlayer")) {
      const chart = layer.closest("[class*=st-key-]")
      const key = `${location.pathname} ${[...chart.classList].find((name) => name.startsWith("st-key-"))}`
      const bars = [...layer.querySelectorAll("path")]
      const outlines = bars.map((bar) => bar.getAttribute("d"))
      const old = before.get(key) ?? []
      before.set(key, outlines)
      if (less.matches || old.length !== outlines.length) continue
      bars.forEach((bar, i) => {
        if (old[i] === outlines[i] || !old[i] || !outlines[i]) return
        bar.animate([{ d: `path("${old[i]}")` }, { d: `path("${outlines[i]}")` }], {
          duration: GLIDE_MS,
          easing: "ease-out",
        })
      })
    }
  }

  new MutationObserver(() => {
    if (!due) requestAnimationFrame(look)
    due = true
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["d"] })
  return true
})()
