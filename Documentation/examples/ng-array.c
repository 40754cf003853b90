// SPDX-License-Identifier: GPL-2.0
/*
 * Read a namespace, 2 MiB at a time, by arrays of commands: one entry of
 * io_uring for 32 of them, whose ends are read without a system call.
 *
 *	cc -O2 -Iuapi Documentation/examples/ng-array.c -luring -o ng-array
 *	./ng-array /dev/ng0n1
 */
#include <err.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/nvme_ng.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define NR	32		/* commands of an array */
#define SIZE	65536U		/* bytes of a read */

static void *memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "%zu bytes of memory", len);
	return p;
}

int main(int argc, char **argv)
{
	static struct nvme_ng_array_cmd cmds[NR];
	struct nvme_ng_ring_entry *entry, *e;
	struct nvme_ng_limits lim = { .size = sizeof(lim) };
	struct nvme_ng_map map = { .size = sizeof(map), .dmabuf_fd = -1 };
	struct nvme_ng_ring r = { .size = sizeof(r), .entries = NR,
				  .entry_size = sizeof(*entry) };
	unsigned long long lba = 0, bytes = 0, sum = 0;
	unsigned int i, blocks, end = 0, size = SIZE;
	struct nvme_ng_ring_head *head;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	unsigned char *mem;
	int fd, ret;

	fd = open(argc == 2 ? argv[1] : "", O_RDONLY);
	if (fd < 0)
		err(1, "usage: ng-array /dev/ngXnY");
	if (ioctl(fd, NVME_NG_IOCTL_LIMITS, &lim))
		err(1, "no limits: is it /dev/ngXnY, with the nvme-ng driver?");
	if (!lim.lba_size || lim.metadata_size)
		errx(1, "%s has no plain blocks", argv[1]);
	if (size > lim.max_transfer)
		size = lim.max_transfer;
	blocks = size / lim.lba_size;
	size = blocks * lim.lba_size;

	mem = memory(NR * size);
	map.addr = (unsigned long)mem;
	map.len = NR * size;
	if (ioctl(fd, NVME_NG_IOCTL_MAP, &map))
		err(1, "map %u bytes", NR * size);
	head = memory(sizeof(*head) + NR * sizeof(*entry));
	entry = (struct nvme_ng_ring_entry *)(head + 1);
	r.addr = (unsigned long)head;
	if (ioctl(fd, NVME_NG_IOCTL_RING, &r))
		err(1, "completion ring");
	ret = io_uring_queue_init(1, &ring, IORING_SETUP_SQE128 |
				  IORING_SETUP_CQE32);
	if (ret)
		errx(1, "io_uring_setup: %s", strerror(-ret));

	while (!end) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		struct nvme_ng_uring_array *array = (void *)sqe->cmd;

		for (i = 0; i < NR; i++, lba += blocks) {
			cmds[i].tag = i;
			cmds[i].cmd = (struct nvme_ng_uring_cmd) {
				.opcode = 0x02,	/* Read */
				.nsid = lim.nsid, .region = map.region,
				.addr = i * size, .data_len = size,
				.cdw10 = lba, .cdw11 = lba >> 32,
				.cdw12 = blocks - 1,
			};
		}
		memset(sqe, 0, 2 * sizeof(*sqe));
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->fd = fd;
		sqe->cmd_op = NVME_NG_URING_CMD_ARRAY;
		array->addr = (unsigned long)cmds;
		array->nr = NR;
		array->cmd_size = sizeof(cmds[0]);
		array->ring = r.ring;
		/* a program with more to do would look at head->tail meanwhile */
		ret = io_uring_submit_and_wait(&ring, 1);
		if (ret < 0 || io_uring_peek_cqe(&ring, &cqe))
			errx(1, "submit: %s", strerror(-ret));
		if (cqe->res != NR)
			errx(1, "%d of an array of %u", cqe->res, NR);
		io_uring_cqe_seen(&ring, cqe);
		while (head->head !=
		       __atomic_load_n(&head->tail, __ATOMIC_ACQUIRE)) {
			e = &entry[head->head % NR];
			if (!e->status) {
				bytes += size;
				sum += mem[e->tag * size];
			} else if ((e->status & 0x7ff) == 0x80) {
				end = 1;	/* LBA Out of Range */
			} else {
				errx(1, "read: status %#x", e->status);
			}
			__atomic_store_n(&head->head, head->head + 1,
					 __ATOMIC_RELEASE);
		}
	}
	printf("%llu bytes, first bytes add up to %llu\n", bytes, sum);
	return 0;
}
