"""Amazon SageMaker, as far as Phalanx serves it."""

from __future__ import annotations

from functools import partial

from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker import algorithms, artifacts, associations, experiments, tags, trial_components, trials, tuning
from phalanx.services.sagemaker.create import EncryptionPolicy, create
from phalanx.services.sagemaker.delete import delete_training_job
from phalanx.services.sagemaker.describe import describe
from phalanx.services.sagemaker.listing import list_training_jobs
from phalanx.services.sagemaker.search import get_search_suggestions, search
from phalanx.services.sagemaker.stop import stop
from phalanx.services.sagemaker.update import update
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database, control: JobControl, *, require_encryption: EncryptionPolicy | None = None) -> Service:
    """The service over a database and the jobs room. `require_encryption` says what becomes of a job of several instances
    without EnableInterContainerTrafficEncryption."""
    return Service(
        "sagemaker",
        {
            "CreateTrainingJob": partial(create, database, control, require_encryption),
            "DescribeTrainingJob": partial(describe, database),
            "ListTrainingJobs": partial(list_training_jobs, database),
            "StopTrainingJob": partial(stop, database, control),
            "UpdateTrainingJob": partial(update, database),
            "DeleteTrainingJob": partial(delete_training_job, database, control),
            "CreateHyperParameterTuningJob": partial(tuning.create, database, control, require_encryption),
            "DescribeHyperParameterTuningJob": partial(tuning.describe, database),
            "ListHyperParameterTuningJobs": partial(tuning.list_tuning_jobs, database),
            "StopHyperParameterTuningJob": partial(tuning.stop, database, control),
            "DeleteHyperParameterTuningJob": partial(tuning.delete_tuning_job, database),
            "ListTrainingJobsForHyperParameterTuningJob": partial(tuning.list_training_jobs, database),
            "Search": partial(search, database),
            "GetSearchSuggestions": partial(get_search_suggestions, database),
            "CreateAlgorithm": partial(algorithms.create, database),
            "DescribeAlgorithm": partial(algorithms.describe, database),
            "ListAlgorithms": partial(algorithms.listing, database),
            "DeleteAlgorithm": partial(algorithms.delete, database),
            **{
                f"{verb}{noun}": partial(handler, database)
                for noun, room in (
                    ("Experiment", experiments),
                    ("Trial", trials),
                    ("TrialComponent", trial_components),
                    ("Artifact", artifacts),
                )
                for verb, handler in (
                    ("Create", room.create),
                    ("Describe", room.describe),
                    ("Update", room.update),
                    ("Delete", room.delete),
                )
            },
            "ListExperiments": partial(experiments.listing, database),
            "ListTrials": partial(trials.listing, database),
            "ListTrialComponents": partial(trial_components.listing, database),
            "ListArtifacts": partial(artifacts.listing, database),
            "AddAssociation": partial(associations.add, database),
            "DeleteAssociation": partial(associations.delete, database),
            "ListAssociations": partial(associations.listing, database),
            "AssociateTrialComponent": partial(trials.associate, database),
            "DisassociateTrialComponent": partial(trials.disassociate, database),
            "AddTags": partial(tags.add, database),
            "ListTags": partial(tags.list_tags, database),
            "DeleteTags": partial(tags.remove, database),
        },
        strict=True,
    )
