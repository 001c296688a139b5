"""What the service answers to sensible requests."""

from __future__ import annotations

import io
import json
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from prsnet.gallery import SightingFilter
from prsnet.gallery.audit import AuditLog
from prsnet.service.settings import Limits, Settings

if TYPE_CHECKING:
    from tests.service.conftest import Answer, Service, Start


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.content
    return [hit["id"] for hit in answer.json["hits"]]


def test_health_needs_nothing(service: Service) -> None:
    answer = service.client.get("/health")
    assert (answer.status, answer.json["status"]) == (200, "ok")


def test_a_picture_finds_its_sighting_in_every_form(service: Service) -> None:
    client, image = service.client, service.pictures[3]
    answers = [
        client.post("/search", {"top_k": 3}, [image]),
        client.form("/search", [image], {"top_k": 3}),
        client.raw("POST", "/search?", image, {"Content-Type": "image/png"}),
    ]
    first = answers[0].json["hits"]
    assert first[0]["id"] == "4"
    assert first[0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert (first[0]["pid"], first[0]["camid"], first[0]["source"]) == (2, 1, "s3")
    assert [hit["similarity"] for hit in first] == sorted((hit["similarity"] for hit in first), reverse=True)
    assert answers[1].json["hits"] == first
    assert answers[2].json["hits"][:3] == first


def test_options_reach_the_gallery(service: Service) -> None:
    client, image = service.client, service.pictures[0]
    assert set(ids(client.post("/search", {"filter": {"cameras": [1]}}, [image]))) == {"2", "4", "6"}
    assert ids(client.post("/search", {"filter": {"ids": ["5", "99"]}}, [image])) == ["5"]
    assert ids(client.post("/search", {"threshold": 0.9999}, [image])) == ["1"]
    assert len(ids(client.post("/search", {"one_per": "pid"}, [image]))) == 3
    assert "1" not in ids(client.post("/search", {"like": ["1"]}))
    both = ids(client.post("/search", {"like": ["3"], "top_k": 1}, [image]))
    expected = service.gallery.search_person(
        service.embedder.embed([np.asarray(Image.open(io.BytesIO(image)))]).vectors,
        model=service.embedder.identity, like=["3"], top_k=1,
    )  # fmt: skip
    assert both == [hit.id for hit in expected]
    until = (datetime.now(timezone.utc) - timedelta(days=1)).isoformat()
    assert ids(client.post("/search", {"filter": {"older_than": until}}, [image])) == []


def test_a_box_cuts_the_person_out(service: Service) -> None:
    scene = Image.new("RGB", (200, 150), "white")
    scene.paste(Image.open(io.BytesIO(service.pictures[2])), (50, 40))
    buffer = io.BytesIO()
    scene.save(buffer, "PNG")
    answer = service.client.post("/search", {"boxes": [[50, 40, 82, 104]], "top_k": 1}, [buffer.getvalue()])
    assert answer.json["hits"][0]["id"] == "3"
    assert answer.json["hits"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    for boxes in ([[50, 40, 50, 104]], [[300, 0, 400, 10]], [], [None, None]):
        wrong = service.client.post("/search", {"boxes": boxes}, [buffer.getvalue()])
        assert wrong.status == 400


def test_embeddings_are_those_of_the_embedder(service: Service) -> None:
    answer = service.client.post("/embed", {}, service.pictures)
    assert answer.status == 200
    expected = service.embedder.embed([np.asarray(Image.open(io.BytesIO(data))) for data in service.pictures])
    np.testing.assert_allclose(answer.json["vectors"], expected.numpy(), rtol=0, atol=1e-6)
    assert answer.json["model"] == service.embedder.identity.fingerprint


def test_the_life_of_a_sighting(service: Service) -> None:
    client = service.client
    known = [{"pid": 9, "camid": 4, "time": "2024-05-01T14:00:00+02:00", "source": "door", "facts": {"hat": True}}, {}]
    new = [service.pictures[0], service.pictures[1]]
    answer = client.post("/sightings", {"sightings": known, "crops": True}, new)
    assert (answer.status, answer.json) == (201, {"ids": ["7", "8"]})
    seen = client.get("/sightings/7").json
    assert (seen["pid"], seen["camid"], seen["source"], seen["facts"], seen["has_crop"]) == (
        9,
        4,
        "door",
        {"hat": True},
        True,
    )
    assert datetime.fromisoformat(seen["time"].replace("Z", "+00:00")) == datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    crop = client.get("/sightings/7/crop")
    assert (crop.status, crop.headers["content-type"]) == (200, "image/jpeg")
    assert crop.headers["x-content-type-options"] == "nosniff"
    assert Image.open(io.BytesIO(crop.content)).size == (32, 64)
    assert client.post("/sightings/7", {"pid": None, "source": "gate"}, method="PATCH").json == {"count": 1}
    seen = client.get("/sightings/7").json
    assert (seen["pid"], seen["source"], seen["camid"]) == (None, "gate", 4)
    assert client.raw("DELETE", "/sightings/7").json == {"count": 1}
    for missing in (client.get("/sightings/7"), client.get("/sightings/7/crop"), client.raw("DELETE", "/sightings/7")):
        assert missing.status == 404
    assert client.form("/sightings", new).json == {"ids": ["9", "10"]}
    without = client.get("/sightings/9/crop")
    assert (without.status, without.json["error"]) == (404, "no picture of sighting 9 is kept")


def test_deleting_by_filter(service: Service) -> None:
    client = service.client
    assert client.post("/delete", {}).status == 400
    assert client.post("/delete", {"filter": {"pids": [1, 3]}}).json == {"count": 4}
    assert {seen.id for seen in service.gallery.find()} == {"3", "4"}
    assert client.post("/delete", {"everything": True}).json == {"count": 2}
    assert service.gallery.count() == 0


def test_pages_of_sightings(service: Service) -> None:
    pages: list[list[str]] = []
    after: str | None = "0"
    while after is not None:
        page = service.client.get(f"/sightings?limit=2&after={after}").json
        pages.append([seen["id"] for seen in page["sightings"]])
        after = page["next"]
    assert pages == [["1", "2"], ["3", "4"], ["5", "6"], []]


def test_stats(service: Service) -> None:
    stats = service.client.get("/stats").json
    assert (stats["sightings"], stats["by_camera"], stats["crops"]) == (6, {"0": 3, "1": 3}, 6)
    assert stats["fingerprint"] == service.embedder.identity.fingerprint


def test_metrics_count_what_happened(service: Service) -> None:
    service.client.post("/search", {}, service.pictures[:2])
    service.client.get("/nowhere")
    service.client.raw("DELETE", "/sightings/1")
    text = service.client.get("/metrics").content.decode()
    assert 'prsnet_requests_total{method="POST",route="/search",status="200"} 1.0' in text
    assert 'prsnet_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "prsnet_embed_batch_images_sum 2.0" in text
    assert "prsnet_sightings_deleted_total 1.0" in text


def test_the_log_names_who_asked(start: Start) -> None:
    token = "a-long-enough-token"
    service = start(Settings(tokens={token: "ann"}), {"Authorization": f"Bearer {token}"})
    service.client.post("/search", {"filter": {"cameras": [1]}}, service.pictures[:1])
    service.client.post("/delete", {"filter": {"pids": [1]}})
    lines = list(AuditLog(service.folder / "audit.jsonl").entries())
    assert [(line["action"], line["who"], line["filter"]) for line in lines] == [
        ("search", "ann", {"cameras": [1]}), ("delete", "ann", {"pids": [1]})
    ]  # fmt: skip


def test_the_description_is_complete_and_refers_to_nothing_elsewhere(service: Service) -> None:
    answer = service.client.get("/openapi.json")
    described = answer.json
    assert set(described["paths"]) == {
        "/health", "/metrics", "/stats", "/embed", "/search", "/sightings", "/sightings/{id}", "/sightings/{id}/crop",
        "/delete",
    }  # fmt: skip
    body = described["paths"]["/search"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data", "image/*"}
    assert "top_k" in body["application/json"]["schema"]["properties"]
    references = [part.split('"')[0] for part in json.dumps(described).split('"$ref": "')[1:]]
    known = described["components"]["schemas"]
    assert references
    assert all(reference.startswith("#/components/schemas/") for reference in references)
    assert all(reference.rpartition("/")[2] in known for reference in references)
    assert service.client.get("/docs").status == 404


def test_sixteen_clients_at_once_share_forward_passes(start: Start) -> None:
    service = start(Settings(limits=Limits(rate=1e6)))
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(4):
            place = (number + turn) % 6
            answer = service.client.post("/search", {"top_k": 1}, [service.pictures[place]])
            if answer.status != 200 or answer.json["hits"][0]["id"] != str(place + 1):
                wrong.append(answer.content)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    text = service.client.get("/metrics").content.decode()
    assert "prsnet_embed_batch_images_sum 64.0" in text
    count = float(text.split("prsnet_embed_batch_images_count ")[1].split()[0])
    assert count < 64


def test_retention_is_applied_without_being_asked(start: Start) -> None:
    service = start()
    assert service.gallery.count(SightingFilter()) == 6
    service.gallery.set_retention(1e-9)
    assert service.client.get("/sightings").json["sightings"] == []
