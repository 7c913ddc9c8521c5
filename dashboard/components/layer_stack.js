// The line between frozen and trained layers, moved with pointer or keys. What each depth says comes with the page, so
// nothing is asked of the server until the line is let go.

const PATIENCE_MS = 5000 // with a server that answers none of what was sent
const LET_GO_MS = 300 // of keys, which have no pointer to let go

export default function ({ data, parentElement, setTriggerValue }) {
  const box = parentElement.querySelector(".stack")
  try {
    if (!window.PointerEvent) throw new Error("no pointer events")
    box.stack ??= live(box)
    box.stack.show(data, (depth) => setTriggerValue("depth", depth))
  } catch {
    box.className = "stack"
    box.innerHTML = data.html
    const note = box.appendChild(document.createElement("div"))
    note.className = "note"
    note.textContent = data.still
  }
}

function live(box) {
  let data, send, depth
  let timer = null // while keys may follow
  let awaited = null // the depth that was sent and is not answered yet: older answers would pull the line back
  let dragged = false
  const drawing = document.createElement("div")
  const handle = document.createElement("div")
  const bubble = document.createElement("div")
  handle.className = "handle"
  bubble.className = "bubble"
  handle.tabIndex = 0
  handle.setAttribute("role", "slider")
  handle.setAttribute("aria-label", "Frozen layers")
  bubble.setAttribute("aria-hidden", "true")
  box.className = "stack live"
  box.replaceChildren(drawing, handle, bubble)

  const last = () => data.readouts.length - 1
  const cells = () => drawing.firstElementChild.children[0]

  function paint(k) {
    depth = k
    const [row, , foot] = drawing.firstElementChild.children
    for (let i = 0; i < data.layers; i++) {
      const frozen = i < k
      row.children[i].style.backgroundColor = frozen ? data.frozen : data.trained
      row.children[i].style.boxShadow = ""
      row.children[i].title = `layer ${i}: ${frozen ? "frozen" : "trained"}`
    }
    foot.children[0].textContent = `input side: ${k} frozen`
    foot.children[1].textContent = `${data.layers - k} trained, output side`
    handle.style.left = `${(100 * k) / data.layers}%`
    for (const [name, value] of [["min", 0], ["max", last()], ["now", k], ["text", `${k}: ${data.readouts[k]}`]]) {
      handle.setAttribute(`aria-value${name}`, value)
    }
    bubble.textContent = `freeze ${k}: ${data.readouts[k]}`
    const share = k / data.layers
    bubble.style.left = `${100 * share}%`
    bubble.style.transform = `translateX(${-100 * share}%)` // so that it never leaves the stack
  }

  function at(event) {
    const { left, width } = cells().getBoundingClientRect()
    const k = Math.round(((event.clientX - left) / width) * data.layers)
    return Math.min(Math.max(k, 0), last())
  }

  function settle() {
    timer = null
    bubble.classList.remove("shown")
    if (depth === data.depth) return
    const asked = (awaited = depth)
    setTimeout(() => (awaited = awaited === asked ? null : awaited), PATIENCE_MS)
    send(depth)
  }

  box.onpointerdown = (event) => {
    const inside = event.target === handle || cells().contains(event.target)
    if (event.button !== 0 || !inside) return
    dragged = true
    box.setPointerCapture(event.pointerId)
    bubble.classList.add("shown")
    paint(at(event))
    handle.focus({ preventScroll: true })
    event.preventDefault()
  }
  box.onpointermove = (event) => {
    if (dragged) paint(at(event))
  }
  box.onpointerup = () => {
    if (dragged) settle()
    dragged = false
  }
  box.onpointercancel = () => {
    bubble.classList.remove("shown")
    dragged = false
    paint(data.depth)
  }
  handle.onkeydown = (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5 }
    const ends = { Home: 0, End: last() }
    if (!(event.key in steps) && !(event.key in ends)) return
    event.preventDefault()
    paint(Math.min(Math.max(ends[event.key] ?? depth + steps[event.key], 0), last()))
    bubble.classList.add("shown")
    clearTimeout(timer)
    timer = setTimeout(settle, LET_GO_MS)
  }
  handle.onblur = () => {
    if (!dragged) bubble.classList.remove("shown")
  }

  return {
    show(next, sendDepth) {
      const same = data && data.layers === next.layers
      data = next
      send = sendDepth
      if (!same) drawing.innerHTML = data.html
      else drawing.firstElementChild.setAttribute("aria-label", labelOf(data.html))
      if (data.depth === awaited) awaited = null
      if (!dragged && timer === null && awaited === null) paint(Math.min(data.depth, last()))
    },
  }
}

function labelOf(html) {
  const template = document.createElement("template")
  template.innerHTML = html
  return template.content.firstElementChild.getAttribute("aria-label")
}
