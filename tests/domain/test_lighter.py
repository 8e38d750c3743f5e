from api.domain.lighter import DECODERS, lighter
from api.domain.workflow import bind, parse_template
from api.settings import PROJECT_ROOT


def test_a_lighter_graph_decodes_in_tiles_and_is_otherwise_the_same():
    path = PROJECT_ROOT / "comfy_workflows" / "flux_text_to_image.json"
    template = parse_template("flux", path.read_text(encoding="utf-8"))
    graph = bind(template, template.defaults())
    light = lighter(graph)
    (decoder,) = (node_id for node_id, node in graph.items() if node["class_type"] == "VAEDecode")
    assert {node_id: node for node_id, node in light.items() if node_id != decoder} == {
        node_id: node for node_id, node in graph.items() if node_id != decoder
    }
    assert light[decoder]["class_type"] == "VAEDecodeTiled"
    assert light[decoder]["class_type"] in DECODERS
    assert graph[decoder]["inputs"].items() < light[decoder]["inputs"].items()
    assert graph[decoder]["class_type"] == "VAEDecode", "the graph itself stays as it was"


def test_a_graph_that_decodes_nothing_stays_the_same():
    graph = {"1": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64}}}
    assert lighter(graph) == graph
