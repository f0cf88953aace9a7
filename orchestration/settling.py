"""How a stage ended becomes what the store says of it. Its result is on disk: this may take as long as it takes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from orchestration import storage
from orchestration.errors import StoreError, Unanswered
from orchestration.folders import StageFolder
from orchestration.recorder import Recorder
from orchestration.storage import Home
from orchestration.tracking import Store
from orchestration.underway import Underway


@dataclass(frozen=True, slots=True)
class Settling:
    """Records the ends of the stages of one submission."""

    store: Store
    home: Home
    recorder: Recorder

    def settle(self, stage: Underway) -> None:
        """Bring how a stage ended to the store; later where that does not answer."""
        try:
            if stage.state == "committing":
                self._commit(stage)
            if stage.state == "failing":
                self._fail(stage)
        except storage.Busy:  # how it ends is the other's to say
            stage.leave("another submit has taken it over")
        except Unanswered as error:
            stage.wait(str(error))
        except StoreError as error:
            self.give_up(stage, error)

    def give_up(self, stage: Underway, error: StoreError) -> None:
        """Fail a stage since to ask again gives the same answer; a result that is whole stays for the next submit."""
        reason = stage.failure or f"{error}" + (f"; {error.hint}" if error.hint else "")
        if stage.run_id:
            with contextlib.suppress(StoreError):
                self.store.end(stage.run_id, "FAILED", reason=reason)
        stage.end("failed", reason)

    def _commit(self, stage: Underway) -> None:
        assert stage.run_id
        folder = StageFolder.of(self.home, stage.plan.fingerprint).confirmed()
        sealed = folder.sealed()
        if sealed is None:
            stage.state, stage.note = "failing", "its job ended without a whole result"
            return
        self.recorder.drain(stage.run_id)
        self.store.finish_stage(stage.run_id, metrics=sealed.metrics, result=sealed.folder, ended_ms=sealed.ended_ms)
        folder.drop_result()
        stage.shows(sealed.metrics)
        stage.end("done", "")

    def _fail(self, stage: Underway) -> None:
        assert stage.run_id
        reason = stage.failure = stage.failure or stage.note
        if StageFolder.of(self.home, stage.plan.fingerprint).confirmed().sealed():  # whatever its job says
            stage.state = "committing"
            self._commit(stage)
            return
        self.recorder.drain(stage.run_id)
        self.store.end(stage.run_id, "FAILED", reason=reason)
        stage.end("failed", reason)
