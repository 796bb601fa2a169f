from slipway.stages.record import RunRecord, StageRecord, liveness_lock, summarize, write_run, write_stage
from slipway.storage.locks import hold_lock


def test_a_run_whose_process_is_gone_is_reported_as_failed_and_one_that_lives_as_running(tmp_path):
    run_dir = tmp_path / "run-1"
    write_run(run_dir, RunRecord(run_id="run-1", pipeline="training", status="RUNNING", started_at="", parameters={}))
    write_stage(run_dir, StageRecord(name="ingest", status="SUCCEEDED", started_at="", seconds=1.0, cached=False))
    write_stage(run_dir, StageRecord(name="preprocess", status="RUNNING", started_at="", seconds=0.0, cached=False))
    with hold_lock(liveness_lock(run_dir), timeout_seconds=1):
        alive = summarize(run_dir)
    killed = summarize(run_dir)
    assert (alive["status"], alive["error"], [stage["status"] for stage in alive["stages"]]) == (
        "RUNNING",
        "",
        ["SUCCEEDED", "RUNNING"],
    )
    assert (killed["status"], [stage["status"] for stage in killed["stages"]]) == ("FAILED", ["SUCCEEDED", "FAILED"])
    assert "was killed" in killed["error"]
