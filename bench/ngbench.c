// SPDX-License-Identifier: GPL-2.0
/*
 * ngbench: guest instructions per I/O of the ways to read from a namespace.
 *
 * Meant for "qemu/vm run --count": there the time stamp counter counts
 * instructions of the one processor, and the device has finished a command
 * before the doorbell write returns, so that nothing is spent on waiting.
 * Each figure is the smallest of several repeats: what is above it is the
 * timer tick.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <x86intrin.h>

#define REPEATS 5

enum path { NOP, BLOCK_READ, BLOCK_FIXED, PLAIN, FIXED, VEC, IOCTL };

static const char * const names[] = {
	"nop", "read", "read-fixed", "plain", "fixed", "vec", "ioctl",
};

static struct {
	const char *dev;
	enum path path;
	bool poll;
	unsigned int size, depth, batch, count, nsid, lba_size;
} opt = {
	.size = 512, .depth = 128, .batch = 32, .count = 4096,
	.lba_size = 512,
};

static char *buf;
static struct iovec *vecs;
static int fd;

static void die(const char *what, int err)
{
	fprintf(stderr, "ngbench: %s: %s\n", what, strerror(err));
	exit(1);
}

static uint64_t random_lba(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	/* the first 32 MiB of the namespace */
	return state % ((32 << 20) / opt.lba_size - opt.size / opt.lba_size);
}

static void prep(struct io_uring *ring, unsigned int slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	char *data = buf + (size_t)slot * opt.size;
	uint64_t lba = random_lba();
	struct nvme_uring_cmd *cmd;

	switch (opt.path) {
	case NOP:
		io_uring_prep_nop(sqe);
		return;
	case BLOCK_READ:
		io_uring_prep_read(sqe, 0, data, opt.size, lba * opt.lba_size);
		break;
	case BLOCK_FIXED:
		io_uring_prep_read_fixed(sqe, 0, data, opt.size,
					 lba * opt.lba_size, 0);
		break;
	default:
		memset(sqe, 0, 2 * sizeof(*sqe));
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->cmd_op = opt.path == VEC ? NVME_URING_CMD_IO_VEC :
						NVME_URING_CMD_IO;
		if (opt.path == FIXED)
			sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
		cmd = (struct nvme_uring_cmd *)sqe->cmd;
		cmd->opcode = 2;
		cmd->nsid = opt.nsid;
		cmd->cdw10 = lba;
		cmd->cdw11 = lba >> 32;
		cmd->cdw12 = opt.size / opt.lba_size - 1;
		if (opt.path == VEC) {
			vecs[slot] = (struct iovec){ data, opt.size };
			cmd->addr = (uintptr_t)&vecs[slot];
			cmd->data_len = 1;
		} else {
			cmd->addr = (uintptr_t)data;
			cmd->data_len = opt.size;
		}
	}
	sqe->fd = 0;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = slot;
}

static void run_ring(struct io_uring *ring)
{
	unsigned int sent = 0, done = 0, i, n, expect;
	struct io_uring_cqe *cqes[128];

	expect = opt.path == BLOCK_READ || opt.path == BLOCK_FIXED ?
		opt.size : 0;
	while (done < opt.count) {
		n = 0;
		while (n < opt.batch && sent < opt.count &&
		       sent - done < opt.depth) {
			prep(ring, sent++ % opt.depth);
			n++;
		}
		if (sent - done == opt.depth || sent == opt.count)
			n = io_uring_submit_and_wait(ring, 1);
		else
			n = io_uring_submit(ring);
		if ((int)n < 0)
			die("submit", -(int)n);
		n = io_uring_peek_batch_cqe(ring, cqes, 128);
		for (i = 0; i < n; i++)
			if (cqes[i]->res != (int)expect)
				die("completion", cqes[i]->res < 0 ?
				    -cqes[i]->res : EIO);
		io_uring_cq_advance(ring, n);
		done += n;
	}
}

static void run_ioctl(void)
{
	struct nvme_passthru_cmd64 cmd = {
		.opcode = 2, .nsid = opt.nsid, .addr = (uintptr_t)buf,
		.data_len = opt.size, .cdw12 = opt.size / opt.lba_size - 1,
	};
	unsigned int i;

	for (i = 0; i < opt.count; i++) {
		cmd.cdw10 = random_lba();
		if (ioctl(fd, NVME_IOCTL_IO64_CMD, &cmd))
			die("ioctl", errno);
	}
}

static void setup_ring(struct io_uring *ring)
{
	bool big = opt.path == PLAIN || opt.path == FIXED || opt.path == VEC;
	struct iovec all = { buf, (size_t)opt.depth * opt.size };
	struct io_uring_params p = {
		.flags = (big ? IORING_SETUP_SQE128 | IORING_SETUP_CQE32 : 0) |
			 (opt.poll ? IORING_SETUP_IOPOLL : 0) |
			 IORING_SETUP_SINGLE_ISSUER,
	};
	int ret = io_uring_queue_init_params(opt.depth, ring, &p);

	if (ret)
		die("io_uring_setup", -ret);
	io_uring_register_ring_fd(ring);
	if (opt.path == NOP)
		return;
	ret = io_uring_register_files(ring, &fd, 1);
	if (ret)
		die("register file", -ret);
	if (opt.path != FIXED && opt.path != BLOCK_FIXED)
		return;
	ret = io_uring_register_buffers(ring, &all, 1);
	if (ret)
		die("register buffer", -ret);
}

static void usage(FILE *out)
{
	fputs("usage: ngbench [OPTION]... DEVICE\n"
	      "  --path P    nop, read, read-fixed (block device); plain, fixed, vec, ioctl\n"
	      "  --poll      poll for completions\n"
	      "  --size N    bytes of a read, default 512\n"
	      "  --depth N   commands in flight, default 128\n"
	      "  --batch N   commands a system call, default 32\n"
	      "  --count N   reads in a repeat, default 4096\n"
	      "  --lba N     bytes of a logical block, default 512\n", out);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "path", 1, NULL, 'p' }, { "poll", 0, NULL, 'i' },
		{ "size", 1, NULL, 's' }, { "depth", 1, NULL, 'd' },
		{ "batch", 1, NULL, 'b' }, { "count", 1, NULL, 'c' },
		{ "lba", 1, NULL, 'l' }, { "help", 0, NULL, 'h' }, { },
	};
	struct io_uring ring;
	uint64_t best = ~0ULL;
	int c, repeat;
	size_t i;

	opt.path = PLAIN;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			for (i = 0; i < sizeof(names) / sizeof(*names); i++)
				if (!strcmp(optarg, names[i]))
					break;
			if (i == sizeof(names) / sizeof(*names))
				die(optarg, EINVAL);
			opt.path = i;
			break;
		case 'i': opt.poll = true; break;
		case 's': opt.size = atoi(optarg); break;
		case 'd': opt.depth = atoi(optarg); break;
		case 'b': opt.batch = atoi(optarg); break;
		case 'c': opt.count = atoi(optarg); break;
		case 'l': opt.lba_size = atoi(optarg); break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind + 1 != argc || !opt.size || !opt.depth || !opt.batch ||
	    !opt.lba_size || opt.size % opt.lba_size) {
		usage(stderr);
		return 2;
	}
	opt.dev = argv[optind];
	fd = open(opt.dev, O_RDONLY | O_DIRECT);
	if (fd < 0)
		fd = open(opt.dev, O_RDONLY);
	if (fd < 0)
		die(opt.dev, errno);
	if (opt.path >= PLAIN)
		opt.nsid = ioctl(fd, NVME_IOCTL_ID);
	buf = mmap(NULL, (size_t)opt.depth * opt.size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	vecs = calloc(opt.depth, sizeof(*vecs));
	if (buf == MAP_FAILED || !vecs)
		die("memory", ENOMEM);
	if (opt.path != IOCTL)
		setup_ring(&ring);

	for (repeat = 0; repeat < REPEATS; repeat++) {
		uint64_t start = __rdtsc();

		if (opt.path == IOCTL)
			run_ioctl();
		else
			run_ring(&ring);
		start = __rdtsc() - start;
		if (start < best)
			best = start;
	}
	printf("%s%s %u %u %llu\n", names[opt.path], opt.poll ? "-poll" : "",
	       opt.size, opt.depth, (unsigned long long)(best / opt.count));
	return 0;
}
