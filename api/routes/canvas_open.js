// Opens in ComfyUI's canvas what its address names: ?asset=ID or ?workflow=NAME. Served beside ComfyUI's own extensions.
import { app } from "../../scripts/app.js";

const POLL_MS = 50;
const wanted = new URLSearchParams(location.search);

async function ready() {
  // The canvas first brings back what was open before; only then another graph stays.
  while (!app.vueAppReady || !app.extensionManager?.workflow?.activeWorkflow || !window.graph) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function open(kind, id) {
  const answer = await fetch(`masuka/${kind}/${encodeURIComponent(id)}`);
  const found = await answer.json();
  await ready();
  if (!answer.ok) {
    app.extensionManager.toast.add({ severity: "error", summary: found.detail, detail: found.hint });
    return;
  }
  if (found.workflow) {
    await app.loadGraphData(found.workflow, true, true, found.name);
  } else {
    await app.loadApiJson(found.prompt, found.name);
  }
  // So that a reload keeps what was done since.
  history.replaceState(history.state, "", location.pathname + location.hash);
  document.documentElement.dataset.masukaOpened = id;
}

app.registerExtension({
  name: "masuka.open",
  async setup() {
    // Its tour begins with a shop of templates that are not installed here.
    await app.extensionManager?.setting?.set("Comfy.TutorialCompleted", true);
    for (const kind of ["asset", "workflow"]) {
      if (wanted.has(kind)) open(`${kind}s`, wanted.get(kind));
    }
  },
});
