"""The same plan on a cluster of your own: start it with dask's own classes, hand its address to `workbench run --workers`.

    python workbench/batch/examples/dask_clusters.py ssh host1 host2
    python workbench/batch/examples/dask_clusters.py slurm --jobs 8          (needs dask-jobqueue)
    python workbench/batch/examples/dask_clusters.py kubernetes --jobs 8     (needs dask-kubernetes)

It prints the address and keeps the cluster until Ctrl-C. One thread a worker: each runs one notebook at a time.
"""

import argparse
import signal


def ssh(hosts: list[str]):
    """The scheduler on the first host, a worker on each; key-based login, the same checkout and environment everywhere."""
    from dask.distributed import SSHCluster

    return SSHCluster([hosts[0], *hosts], worker_options={"nthreads": 1, "memory_limit": 0})


def slurm(jobs: int):
    """One job of the batch system for each worker; a GPU each with `worker_extra_args` and `job_extra_directives`."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        cores=1,
        processes=1,
        memory="4GB",
        walltime="04:00:00",
        # For GPUs: job_extra_directives=["--gres=gpu:1"], worker_extra_args=["--resources", "GPU=1"]
        worker_extra_args=["--lifetime", "230m", "--lifetime-stagger", "5m"],
    )
    cluster.scale(jobs=jobs)
    return cluster


def kubernetes(jobs: int):
    """Pods of an image that holds the checkout and its environment."""
    from dask_kubernetes.operator import KubeCluster

    return KubeCluster(name="workbench", image="your-registry/contrastive-workbench:latest", n_workers=jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ssh", "slurm", "kubernetes"])
    parser.add_argument("hosts", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.kind == "ssh" and not given.hosts:
        parser.error("ssh needs the names of hosts")
    cluster = ssh(given.hosts) if given.kind == "ssh" else {"slurm": slurm, "kubernetes": kubernetes}[given.kind](given.jobs)
    print(f"workbench run --workers {cluster.scheduler_address}", flush=True)
    signal.pause()
