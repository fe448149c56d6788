"""SLURM on this machine alone, for tests."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ranks import TIMEOUT, free_port, wait_for

SLURM = """
ClusterName=one
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost CPUs={cpus}
PartitionName=one Nodes=localhost Default=YES
"""


def refusal() -> str:
    """The reason for which SLURM cannot start here; empty if it can."""
    if not all(map(shutil.which, ("sbatch", "slurmctld", "slurmd"))):
        return "needs SLURM's daemons: apt-get install slurmctld slurmd"
    return "" if (os.cpu_count() or 1) > 1 else "needs two cores"


@contextmanager
def slurm_daemons(folder: Path) -> Iterator[Path]:
    """The daemons for the length of a ``with`` block, without accounts and without munge; gives the configuration."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    file, ports = folder / "slurm.conf", (free_port(), free_port())
    file.write_text(SLURM.format(ports=ports, user=getpass.getuser(), folder=folder, cpus=os.cpu_count()))
    environment = os.environ | {"SLURM_CONF": str(file)}

    def said(*command: str) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    commands = (["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", "localhost"])
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    daemons = [subprocess.Popen(command, env=environment, **nowhere) for command in commands]
    try:
        wait_for(lambda: "localhost" in said("sinfo", "--states=idle", "--format=%n"), what="an idle node")
        yield file
        wait_for(lambda: not said("squeue", "--noheader"), what="the end of the last job")
    finally:
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(TIMEOUT)
