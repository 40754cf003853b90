// SPDX-License-Identifier: GPL-2.0
/*
 * Read a namespace from start to end as fast as one core can: memory that is
 * mapped once, commands that name a part of it, a ring that polls.
 *
 *	cc -O2 -Iuapi Documentation/examples/ng-read.c -luring -o ng-read
 *	./ng-read /dev/ng0n1
 *
 * It needs no privilege beyond read access to the node.  Where the driver has
 * no queue pair left for the ring, nor any to poll (nvme.poll_queues), the ring
 * spins until the interrupt: leave out IORING_SETUP_IOPOLL then.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/nvme_ng.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define DEPTH	64
#define SIZE	65536U		/* bytes of a read */

int main(int argc, char **argv)
{
	struct nvme_ng_limits lim = { .size = sizeof(lim) };
	struct nvme_ng_map map = { .size = sizeof(map), .dmabuf_fd = -1 };
	unsigned long long lba = 0, bytes = 0, sum = 0;
	unsigned int i, slot, blocks, flying = 0, size = SIZE;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	unsigned char *mem;
	int fd, ret;

	if (argc != 2)
		errx(2, "usage: ng-read /dev/ngXnY");
	fd = open(argv[1], O_RDONLY);
	if (fd < 0)
		err(1, "%s", argv[1]);
	/* what a command may look like */
	if (ioctl(fd, NVME_NG_IOCTL_LIMITS, &lim))
		err(1, "no limits: is it /dev/ngXnY, with the nvme-ng driver?");
	if (!lim.lba_size || lim.metadata_size)
		errx(1, "%s has no plain blocks", argv[1]);
	if (size > lim.max_transfer)
		size = lim.max_transfer;
	blocks = size / lim.lba_size;
	size = blocks * lim.lba_size;

	/* one region for all that is ever in flight */
	mem = mmap(NULL, DEPTH * size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "mmap");
	map.addr = (unsigned long)mem;
	map.len = DEPTH * size;
	if (ioctl(fd, NVME_NG_IOCTL_MAP, &map))
		err(1, "map %u bytes", DEPTH * size);

	ret = io_uring_queue_init(DEPTH, &ring, IORING_SETUP_SQE128 |
				  IORING_SETUP_CQE32 | IORING_SETUP_IOPOLL |
				  IORING_SETUP_SINGLE_ISSUER);
	if (ret)
		errx(1, "io_uring_setup: %s", strerror(-ret));
	/* one reference to the file, not one for each command */
	ret = io_uring_register_files(&ring, &fd, 1);
	if (ret)
		errx(1, "register: %s", strerror(-ret));

	for (slot = 0; slot < DEPTH || flying; slot++) {
		struct nvme_ng_uring_cmd *cmd;
		struct io_uring_sqe *sqe;

		if (slot >= DEPTH) {
			/* a read of the past has ended: its slot is free */
			ret = io_uring_submit_and_wait(&ring, 1);
			if (ret < 0 || io_uring_peek_cqe(&ring, &cqe))
				errx(1, "submit: %s", strerror(-ret));
			flying--;
			if (cqe->res < 0)
				errx(1, "read: %s", strerror(-cqe->res));
			i = cqe->user_data;
			/* LBA Out of Range: that was the end */
			if (cqe->res && (cqe->res & 0x7ff) != 0x80)
				errx(1, "read: NVMe status %#x", cqe->res);
			if (cqe->res) {
				lba = ~0ULL;
			} else {
				bytes += size;
				sum += mem[(size_t)i * size];
			}
			io_uring_cqe_seen(&ring, cqe);
			if (lba == ~0ULL)
				continue;
		} else {
			i = slot;
		}
		sqe = io_uring_get_sqe(&ring);
		memset(sqe, 0, 2 * sizeof(*sqe));
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->flags = IOSQE_FIXED_FILE;
		sqe->cmd_op = NVME_NG_URING_CMD_IO;
		sqe->user_data = i;
		cmd = (struct nvme_ng_uring_cmd *)sqe->cmd;
		cmd->opcode = 0x02;	/* Read */
		cmd->nsid = lim.nsid;
		cmd->region = map.region;
		cmd->addr = (unsigned long long)i * size;
		cmd->data_len = size;
		cmd->cdw10 = lba;
		cmd->cdw11 = lba >> 32;
		cmd->cdw12 = blocks - 1;
		lba += blocks;
		flying++;
	}
	printf("%llu bytes, first bytes add up to %llu\n", bytes, sum);
	return 0;
}
