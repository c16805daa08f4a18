"""Where the cells of a study are run: processes of this machine, a Ray cluster, a Slurm queue.

A worker is told the folder of a study and the names of cells, nothing else: it reads the study, plans it as the
command line did, and writes the rows of those cells itself. So nothing but names is sent, rows and files are the same
whoever wrote them, and a worker that is lost costs the cell it was at. All machines share the folders of the study.
"""
