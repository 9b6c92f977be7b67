"""What the service does under load, on real processes and sockets: listings over many rows, event streams with many
readers, many uploads at once, submissions beside readers.

    python -m benchmarks.load [--small] [--only listing] [--database postgresql]
        [--upload-mb 100]

Every part compares the loaded service with an idle one in the same run, taking turns request by request, so that the
ratios hold on a machine that has other work.
"""
