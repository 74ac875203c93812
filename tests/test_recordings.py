from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxburst.errors import FluxburstError, RecordingError, RequestError
from fluxburst.flux.resources import status_from_nodes
from fluxburst.model.job import Job, JobState
from fluxburst.model.node import Node
from fluxburst.simulation import recordings

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NODES = (Node(0, "lead", 8, 2, 8, 1), Node(1, "burst0", 8, up=False, free_cores=8))


def job(number: int = 1, **changes: Any) -> Job:
    resources = [
        {"type": "slot", "count": 2, "label": "task", "with": [{"type": "core", "count": 4}]}
    ]
    return Job(
        {
            "id": number,
            "userid": 1000,
            "state": 8,
            "priority": 16,
            "urgency": 16,
            "t_submit": 1.5,
            "name": "app",
            "spec": {
                "version": 1,
                "resources": resources,
                "tasks": [{"command": ["app"], "slot": "task", "count": {"per_slot": 1}}],
                "attributes": {"system": {"duration": 60, "burstable": 1}},
            },
            **changes,
        }
    )


def lines_of(jobs: list[Job], nodes: tuple[Node, ...] | None = NODES) -> list[str]:
    head = [] if nodes is None else [json.dumps({"resources": status_from_nodes(nodes)})]
    records = [
        {"job": {k: v for k, v in each.items() if k != "spec"}, "jobspec": each["spec"]}
        for each in jobs
    ]
    return [*head, *map(json.dumps, records)]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# --- the recordings that come with the package ---------------------------------------------


def test_the_bundled_queue_holds_300_jobs_and_17_nodes() -> None:
    recording = recordings.load(recordings.BUNDLED)
    assert len(recording.jobs) == 300
    assert len({each.id for each in recording.jobs}) == 300
    assert len(recording.nodes) == 17
    assert [node.up for node in recording.nodes] == [True] + [False] * 16
    assert recording.nodes[0].hostname == "lead0"
    assert recording.nodes[16].hostname == "burst15"
    assert {(node.cores, node.gpus, node.idle) for node in recording.nodes} == {(8, 2, True)}


def test_every_job_of_the_bundled_queue_can_be_counted() -> None:
    for each in recordings.load(recordings.BUNDLED).jobs:
        assert each.cores > 0
        assert each.tasks > 0
        assert each.command
        assert each.get("ncores", each.cores) == each.cores
        assert each.get("ntasks", each.tasks) == each.tasks
        assert each.get("nnodes", each.nodes) == each.nodes


def test_the_bundled_queue_holds_jobs_of_every_kind() -> None:
    jobs = recordings.load(recordings.BUNDLED).jobs
    assert {each.state for each in jobs} >= {JobState.SCHED, JobState.DEPEND}
    assert any(each.burstable and not each.not_startable for each in jobs)
    assert any(each.burstable and each.not_startable for each in jobs)
    assert any(not each.burstable for each in jobs)


def test_the_bundled_queue_holds_no_environment() -> None:
    text = recordings.BUNDLED.read_text(encoding="utf-8")
    assert "environment" not in text
    assert '"files"' not in text
    assert "annotations" not in text


def test_the_bundled_single_job_needs_four_nodes() -> None:
    recording = recordings.load(recordings.ONE_JOB)
    [one] = recording.jobs
    assert (one.nodes, one.burstable, one.not_startable) == (4, True, "")
    assert [node.usable for node in recording.nodes] == [True]


# --- reading -------------------------------------------------------------------------------


def test_jobs_are_read_in_their_order(tmp_path: Path) -> None:
    recording = recordings.load(written(tmp_path / "q", *lines_of([job(3), job(1), job(2)])))
    assert [each.id for each in recording.jobs] == [3, 1, 2]
    assert recording.jobs[0] == job(3)
    assert recording.nodes == NODES


def test_resources_may_stand_anywhere_and_empty_lines_do_not_matter(tmp_path: Path) -> None:
    head, first, second = lines_of([job(1), job(2)])
    recording = recordings.load(written(tmp_path / "q", "", first, "  ", head, second, ""))
    assert len(recording.jobs) == 2
    assert recording.nodes == NODES


def test_a_queue_without_resources_has_no_nodes(tmp_path: Path) -> None:
    assert recordings.load(written(tmp_path / "q", *lines_of([job()], None))).nodes == ()


def test_an_empty_queue_with_resources_is_a_recording(tmp_path: Path) -> None:
    recording = recordings.load(written(tmp_path / "q", *lines_of([])))
    assert (recording.jobs, recording.nodes) == ((), NODES)


def test_resources_may_lie_beside_the_queue(tmp_path: Path) -> None:
    path = written(tmp_path / "queue.jsonl", *lines_of([job()], None))
    written(tmp_path / "resources.json", json.dumps(status_from_nodes(NODES), indent=2))
    assert recordings.load(path).nodes == NODES


def test_resources_in_the_queue_count_before_those_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path / "queue.jsonl", *lines_of([job()]))
    written(tmp_path / "resources.json", json.dumps(status_from_nodes(NODES[:1])))
    assert recordings.load(path).nodes == NODES


def test_malformed_resources_beside_the_queue_are_blamed_by_their_own_name(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "queue.jsonl", *lines_of([job()], None))
    beside = tmp_path / "resources.json"
    for text in ("{", "[]", "{}", '{"resource.status": 5, "sched.resource-status": 5}'):
        written(beside, text)
        with pytest.raises(RecordingError) as caught:
            recordings.load(path)
        assert caught.value.path == str(beside)


def test_a_job_without_a_jobspec_is_read_and_says_so_when_asked(tmp_path: Path) -> None:
    [line] = lines_of([job(spec=None)], None)
    [read] = recordings.load(written(tmp_path / "q", line)).jobs
    with pytest.raises(RequestError, match="job 1: jobspec"):
        read.cores  # noqa: B018


# --- files that are no recordings ----------------------------------------------------------


def refused(path: Path, problem: str, line: int = 0) -> None:
    with pytest.raises(RecordingError) as caught:
        recordings.load(path)
    error = caught.value
    assert isinstance(error, RequestError)
    assert (error.path, error.line) == (str(path), line)
    assert problem in str(error)
    assert str(error).startswith(f"{path}, line {line}: " if line else f"{path}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_truncated_file_is_refused_with_its_last_line(tmp_path: Path, cut: int) -> None:
    text = "\n".join(lines_of([job(1), job(2)]))
    path = tmp_path / "q"
    path.write_text(text[:-cut], encoding="utf-8")
    refused(path, "is not JSON, or is truncated", 3)


def test_the_bundled_queue_cut_off_anywhere_in_a_line_is_refused(tmp_path: Path) -> None:
    whole = recordings.BUNDLED.read_bytes()
    path = tmp_path / "q"
    for length in (1, 500, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordingError, match="is truncated"):
            recordings.load(path)


@pytest.mark.parametrize("text", ["hello", "id,user\n1,2", "<html>", "{'job': 1}", "{} {}", "\x00"])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "q", text), "is not JSON", 1)


@pytest.mark.parametrize("text", ["5", "[]", '"x"', "null", "[1, 2]", "true"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "q", text), "is not a JSON object", 1)


@pytest.mark.parametrize("text", ["", "\n", "  \n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q"
    path.write_text(text, encoding="utf-8")
    refused(path, "holds no jobs")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q"
    path.write_bytes(b"\x7fELF\x02\x01\xff\xfe\x00\x80")
    refused(path, "is not UTF-8 text")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "cannot be read: No such file")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize(
    "record",
    [{}, {"job": None}, {"job": 5}, {"job": {}}, {"job": {"id": "1"}}, {"job": {"id": True}},
     {"job": {"id": 1.0}}, {"id": 1, "state": 8}, {"jobspec": {}}],
)  # fmt: skip
def test_a_line_without_a_job_is_refused(tmp_path: Path, record: object) -> None:
    path = written(tmp_path / "q", *lines_of([job()]), json.dumps(record))
    refused(path, "has no 'job' with an integer 'id'", 3)


@pytest.mark.parametrize("state", [None, "SCHED", 8.0, True])
def test_a_job_without_a_state_is_refused(tmp_path: Path, state: object) -> None:
    refused(written(tmp_path / "q", *lines_of([job(state=state)])), "job 1 has no integer", 2)


@pytest.mark.parametrize(
    "resources",
    [None, 5, [], {}, {"resource.status": {}}, {"resource.status": {}, "sched.resource-status": {}},
     {"resource.status": [], "sched.resource-status": []}],
)  # fmt: skip
def test_malformed_resources_are_refused(tmp_path: Path, resources: object) -> None:
    path = written(tmp_path / "q", json.dumps({"resources": resources}), *lines_of([job()], None))
    refused(path, "its resources are invalid", 1)


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "q", *lines_of([job(1), job(2), job(1)]))
    refused(path, "has a duplicate job id")


@pytest.mark.parametrize("number", [-1, 2**64])
def test_an_id_that_is_no_job_id_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(RecordingError):
        recordings.load(written(tmp_path / "q", *lines_of([job(number)])))


@pytest.mark.parametrize("text", ['{"job": ' + "9" * 5000 + "}", '{"job": ' + "[" * 100_000])
def test_a_line_that_no_reader_bears_is_refused(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "q", text), "is not JSON", 1)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_line_feeds_part_lines(tmp_path: Path, separator: str) -> None:
    record = {"job": {"id": 1, "state": 8, "name": f"a{separator}b"}, "jobspec": {}}
    path = written(tmp_path / "q", json.dumps(record, ensure_ascii=False))
    assert recordings.load(path).jobs[0]["name"] == f"a{separator}b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["job", "jobspec", "id", "state", "resources", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.lists(json_values.map(json.dumps) | st.text(max_size=9), max_size=4) | st.binary())
@unhurried
def test_any_file_is_a_recording_or_a_recording_error(
    tmp_path: Path, content: list[str] | bytes
) -> None:
    path = tmp_path / "q"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text("\n".join(content), encoding="utf-8")
    try:
        recordings.load(path)
    except RecordingError as error:
        assert error.path == str(path)  # noqa: PT017


# --- writing -------------------------------------------------------------------------------


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    jobs = [job(2), job(1, state=2, dependencies=["after-ok=ƒ12"]), job(3, priority=0)]
    recordings.save(path, jobs, NODES)
    assert recordings.load(path) == recordings.Recording(tuple(jobs), NODES)


def test_the_bundled_queue_means_the_same_after_saving(tmp_path: Path) -> None:
    before = recordings.load(recordings.BUNDLED)
    recordings.save(tmp_path / "q", before.jobs, before.nodes)
    after = recordings.load(tmp_path / "q")
    assert after.nodes == before.nodes
    for old, new in zip(before.jobs, after.jobs, strict=True):
        assert new.chunks == old.chunks
        assert (new.tasks, new.burstable, new.queue) == (old.tasks, old.burstable, old.queue)
        assert new.not_startable == old.not_startable
        assert {k: v for k, v in new.items() if k != "spec"} == {
            k: v for k, v in old.items() if k not in ("spec", "annotations")
        }


def test_saving_does_not_change_the_jobs(tmp_path: Path) -> None:
    one = job(annotations={"user": {"fluxburst": {"plugin": "gke"}}})
    before = json.dumps(one)
    recordings.save(tmp_path / "q", [one], NODES)
    assert json.dumps(one) == before


SECRET = "hunter2"


def with_spec(**changes: Any) -> Job:
    one = job()
    one["spec"] = {**one["spec"], **changes}
    return one


def with_attributes(**attributes: Any) -> Job:
    return with_spec(attributes={"system": {"duration": 60}, **attributes})


LEAKS = {
    "environment": with_attributes(system={"environment": {"API_KEY": SECRET, SECRET: "1"}}),
    "files": with_attributes(system={"files": {"script": {"data": SECRET}}}),
    "shell options": with_attributes(system={"shell": {"options": {"pmi": SECRET}}}),
    "unknown attribute": with_attributes(system={"site": SECRET}),
    "user attributes": with_attributes(user={"note": SECRET}),
    "other attributes": with_attributes(other={"note": SECRET}),
    "annotations": job(annotations={"user": {"memo": SECRET}, "sched": {"x": SECRET}}),
    "arguments": with_spec(
        tasks=[
            {"command": ["app", "--password", SECRET], "slot": "task", "count": {"per_slot": 1}},
            {"command": ["app2", SECRET], "slot": "task", "count": {"total": 2}},
        ]
    ),
    "environment of a task": with_spec(
        tasks=[
            {
                "command": ["app"],
                "slot": "task",
                "count": {"per_slot": 1},
                "attributes": {"environment": {"API_KEY": SECRET}},
            }
        ]
    ),
}


@pytest.mark.parametrize("place", LEAKS)
def test_a_secret_is_not_saved_wherever_it_stands(tmp_path: Path, place: str) -> None:
    one = LEAKS[place]
    assert SECRET in json.dumps(one)
    path = tmp_path / "q"
    recordings.save(path, [one], NODES)
    assert SECRET not in path.read_text(encoding="utf-8")
    assert recordings.load(path).jobs[0].chunks == one.chunks


def test_the_mark_of_a_job_is_not_saved(tmp_path: Path) -> None:
    recordings.save(tmp_path / "q", [job(annotations={"user": {"fluxburst": {"plugin": "a"}}})], ())
    assert recordings.load(tmp_path / "q").jobs[0].mark is None


def test_what_bursting_needs_is_saved(tmp_path: Path) -> None:
    system = {
        "burstable": "gke",
        "queue": "batch",
        "bank": "physics",
        "duration": 60,
        "constraints": {"properties": ["gpu"]},
        "dependencies": [{"scheme": "after", "value": "ƒ12"}],
    }
    one = with_attributes(system=system)
    recordings.save(tmp_path / "q", [one], ())
    [read] = recordings.load(tmp_path / "q").jobs
    assert read.attributes == system
    assert read.command == ["app"]


@pytest.mark.parametrize("tasks", [[{"slot": "task"}], [5], 5, [{"command": None}]])
def test_a_job_with_malformed_tasks_does_not_break_saving(tmp_path: Path, tasks: object) -> None:
    try:
        recordings.save(tmp_path / "q", [with_spec(tasks=tasks), job(2)], NODES)
    except FluxburstError:
        return
    assert len(recordings.load(tmp_path / "q").jobs) == 2


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "where"):
        with pytest.raises(RecordingError, match="cannot be written") as caught:
            recordings.save(path, [job()], NODES)
        assert caught.value.path == str(path)


def test_a_file_is_left_as_it_is_if_a_job_cannot_be_saved(tmp_path: Path) -> None:
    path = written(tmp_path / "q", "precious")
    with pytest.raises(FluxburstError):
        recordings.save(path, [job(spec=None)], NODES)
    assert path.read_text(encoding="utf-8") == "precious\n"


@pytest.mark.parametrize("key", ["priority", "t_submit", "userid", "duration", "urgency"])
@pytest.mark.parametrize("value", ["x", None, [], True, float("nan"), float("inf")])
def test_what_must_be_a_number_of_a_job_is_checked(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "q"
    path.write_text(json.dumps({"job": {"id": 1, "state": 8, key: value}, "jobspec": {}}))
    with pytest.raises(RecordingError, match=f"line 1: job 1: '{key}' is not a number"):
        recordings.load(path)
