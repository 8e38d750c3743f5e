// ComfyUI's canvas 1.32 knows its pages by paths from the root of a host; here it stands below it, and would stay empty.
const POLL_MS = 20;

async function router() {
  for (;;) {
    const found = document.getElementById("vue-app")?.__vue_app__?.config.globalProperties.$router;
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const found = await router();
await found.isReady();
if (!found.currentRoute.value.matched.length) {
  const [root] = found.options.routes;
  found.addRoute({ ...root, path: location.pathname });
  await found.replace(location.pathname + location.search + location.hash);
}
