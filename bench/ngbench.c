// SPDX-License-Identifier: GPL-2.0
/*
 * ngbench: guest instructions per I/O of the ways to read from a namespace.
 *
 * Meant for "qemu/vm run --count": there the time stamp counter counts the
 * instructions of the one processor, and the device has finished a command
 * before the doorbell write returns, so that nothing is spent on waiting.
 * Anywhere else the figures are cycles of the time stamp counter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "nvme_ng.h"
#include "vfio.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof(*(a)))
#define MAX_DEVICES	8
#define PAGE_SIZE	4096
/* Reads go to the first bytes of a namespace. */
#define SPAN		(32U << 20)
#define UNTOUCHED	0xa5a5a5a5a5a5a5a5ULL

/* What the profiler looks for: instructions that do nothing, by number. */
#define MARK(number)	\
	asm volatile("nopl 0x6e6700" #number "(%%rax,%%rax,1)" ::: "memory")
#define MARK_START()	MARK(01)
#define MARK_STOP()	MARK(02)
#define MARK_END()	MARK(03)

static const struct path {
	const char *name;
	__u32 cmd_op;			/* 0 unless an NVMe command in a ring */
	bool block, fixed, vec, premap, array;
} paths[] = {
	{ .name = "nop" },
	{ .name = "read", .block = true },
	{ .name = "read-fixed", .block = true, .fixed = true },
	{ .name = "plain", .cmd_op = NVME_URING_CMD_IO },
	{ .name = "fixed", .cmd_op = NVME_URING_CMD_IO, .fixed = true },
	{ .name = "vec", .cmd_op = NVME_URING_CMD_IO_VEC, .vec = true },
	{ .name = "vec-fixed", .cmd_op = NVME_URING_CMD_IO_VEC, .vec = true,
	  .fixed = true },
	{ .name = "premap", .cmd_op = NVME_NG_URING_CMD_IO, .premap = true },
	{ .name = "premap-vec", .cmd_op = NVME_NG_URING_CMD_IO_VEC,
	  .vec = true, .premap = true },
	{ .name = "array", .cmd_op = NVME_NG_URING_CMD_ARRAY, .premap = true,
	  .array = true },
	{ .name = "ioctl" },
	{ .name = "vfio" },
};
#define NOP	(&paths[0])
#define IOCTL	(&paths[ARRAY_SIZE(paths) - 2])
#define VFIO	(&paths[ARRAY_SIZE(paths) - 1])

static struct {
	const struct path *path;
	bool poll, sqpoll, unregistered, thp;
	unsigned int size, depth, batch, segments, count, repeats, lba_size;
} opt = {
	.path = &paths[3], .size = 512, .depth = 128, .batch = 32,
	.segments = 1, .count = 256, .repeats = 32, .lba_size = 512,
};

static struct device {
	const char *name;
	int fd;
	__u32 nsid, region;
	/* What entry number slot of the vectors is for: the data of one read. */
	union {
		struct iovec *iov;
		struct nvme_ng_segment *segs;
	};
	/* for arrays: where they end, and the commands of one */
	struct nvme_ng_ring_head *results;
	struct nvme_ng_array_cmd *cmds;
	__u32 ring;
} devices[MAX_DEVICES];
static unsigned int nr_devices;

static struct io_uring ring;
static struct vfio_queue queue;
static unsigned int blocks, lba_mask, ring_entries;
static __u64 seed = 88172645463325252ULL;
static int expect;
static char *buf;
/* By submission queue entry: where the data of slot 0 is. */
static __u64 *base;
static __u64 stride;
static unsigned int *free_slots, nr_free;

/* Of a repeat: instructions within system calls, and how many those were. */
static uint64_t inside, calls;
/* What reading the counter around a system call adds: there, and in all. */
static uint64_t cost_inside, cost_all;

static void __attribute__((noreturn, format(printf, 2, 3)))
die(int err, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "ngbench: %s: ", opt.path->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(1);
}

static inline long counted_syscall(long nr, long a, long b, long c, long d)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = 0;
	register long r9 asm("r9") = 0;
	uint64_t start = __rdtsc();
	long ret;

	asm volatile("syscall" : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	inside += __rdtsc() - start;
	calls++;
	return ret;
}

static void calibrate(void)
{
	unsigned int i, n = 1000;
	uint64_t start, all = __rdtsc();

	for (i = 0; i < n; i++) {
		start = __rdtsc();
		asm volatile("" ::: "memory");
		inside += __rdtsc() - start;
		calls++;
	}
	all = __rdtsc() - all;
	cost_inside = inside / n;
	/* without the three instructions of the loop itself */
	cost_all = all / n - 3;
}

/* Where the next read goes: a block number. */
static inline __u64 next_lba(__u64 *state, unsigned int mask, unsigned int n)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*state >> 33 & mask) * n;
}

/* All of an entry that is the same for every read. */
static void prepare_sqe(unsigned int at)
{
	struct device *device = &devices[at % nr_devices];
	const struct path *path = opt.path;
	size_t size = path->cmd_op ? 128 : 64;
	struct io_uring_sqe *sqe = (void *)((char *)ring.sq.sqes + at * size);
	struct nvme_ng_uring_cmd *cmd = (void *)sqe->cmd;

	memset(sqe, 0, size);
	if (path == NOP) {
		sqe->opcode = IORING_OP_NOP;
		return;
	}
	sqe->fd = opt.unregistered ? device->fd : (int)(at % nr_devices);
	sqe->flags = opt.unregistered ? 0 : IOSQE_FIXED_FILE;
	base[at] = (uintptr_t)buf;
	if (path->block) {
		sqe->opcode = path->fixed ? IORING_OP_READ_FIXED :
					    IORING_OP_READ;
		sqe->len = opt.size;
		return;
	}
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->cmd_op = path->cmd_op;
	if (path->array) {
		*(struct nvme_ng_uring_array *)cmd =
			(struct nvme_ng_uring_array) {
				.addr = (uintptr_t)device->cmds,
				.cmd_size = sizeof(*device->cmds),
				.ring = device->ring,
			};
		return;
	}
	if (path->fixed)
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	cmd->opcode = 2;
	cmd->nsid = device->nsid;
	cmd->cdw12 = blocks - 1;
	cmd->data_len = opt.size;
	if (path->vec) {
		base[at] = (uintptr_t)device->iov;
		cmd->data_len = opt.segments;
	} else if (path->premap) {
		base[at] = 0;
		cmd->region = device->region;
	}
}

/* What must be written for each read, as a program for one path would do it. */
static __always_inline void fill(unsigned int n, bool nop, bool block,
				 bool fixed)
{
	const unsigned int mask = ring.sq.ring_mask, span = lba_mask,
			   len = blocks, lba_size = opt.lba_size;
	const size_t size = nop || block ? 64 : 128;
	const __u64 *from = base, step = stride;
	char *sqes = (char *)ring.sq.sqes;
	unsigned int *free_slot = free_slots + nr_free;
	unsigned int tail = *ring.sq.ktail, at;
	struct nvme_uring_cmd *cmd;
	struct io_uring_sqe *sqe;
	__u64 state = seed, lba, slot;

	nr_free -= n;
	for (; n; n--) {
		at = tail++ & mask;
		sqe = (void *)(sqes + at * size);
		slot = *--free_slot;
		sqe->user_data = slot;
		if (nop)
			continue;
		lba = next_lba(&state, span, len);
		if (fixed)
			sqe->buf_index = slot;
		if (block) {
			sqe->off = lba * lba_size;
			sqe->addr = from[at] + slot * step;
		} else {
			cmd = (void *)sqe->cmd;
			cmd->addr = from[at] + slot * step;
			cmd->cdw10 = lba;
			cmd->cdw11 = lba >> 32;
		}
	}
	seed = state;
	io_uring_smp_store_release(ring.sq.ktail, tail);
}

static __always_inline unsigned int reap(size_t size)
{
	const unsigned int mask = ring.cq.ring_mask;
	unsigned int tail = io_uring_smp_load_acquire(ring.cq.ktail);
	unsigned int head = *ring.cq.khead, n = tail - head;
	unsigned int *free_slot = free_slots + nr_free;
	const char *cqes = (char *)ring.cq.cqes;
	const struct io_uring_cqe *cqe;
	const int want = expect;

	nr_free += n;
	for (; head != tail; head++) {
		cqe = (void *)(cqes + (head & mask) * size);
		if (cqe->res != want) {
			if (cqe->res < 0)
				die(-cqe->res, "completion");
			die(EIO, "completion with %#x", cqe->res);
		}
		*free_slot++ = cqe->user_data;
	}
	io_uring_smp_store_release(ring.cq.khead, head);
	return n;
}

/* Hand over n entries, wait for so many completions. */
static void enter(unsigned int n, unsigned int wait)
{
	unsigned int flags = IORING_ENTER_REGISTERED_RING;
	long ret;

	if (opt.sqpoll) {
		n = 0;
		if (IO_URING_READ_ONCE(*ring.sq.kflags) & IORING_SQ_NEED_WAKEUP)
			flags |= IORING_ENTER_SQ_WAKEUP;
		else if (!wait)
			return;
	}
	if (wait)
		flags |= IORING_ENTER_GETEVENTS;
	ret = counted_syscall(__NR_io_uring_enter, ring.enter_ring_fd, n, wait,
			      flags);
	if (ret != n)
		die(ret < 0 ? -ret : EIO, "io_uring_enter");
}

static __always_inline void run_ring(bool nop, bool block, bool fixed)
{
	unsigned int left = opt.count, flying = 0, n, wait;

	while (left || flying) {
		n = opt.depth - flying;
		if (n > opt.batch)
			n = opt.batch;
		if (n > left)
			n = left;
		fill(n, nop, block, fixed);
		flying += n;
		left -= n;
		wait = 0;
		if (flying == opt.depth || !left)
			wait = flying < opt.batch ? flying : opt.batch;
		enter(n, wait);
		flying -= reap(nop || block ? 16 : 32);
	}
}

static __always_inline void fill_array(struct device *device, unsigned int n)
{
	const unsigned int span = lba_mask, len = blocks;
	unsigned int *free_slot = free_slots + nr_free;
	unsigned int tail = *ring.sq.ktail;
	struct nvme_ng_array_cmd *cmd = device->cmds;
	const __u64 step = stride;
	struct io_uring_sqe *sqe;
	__u64 state = seed, lba, slot;

	sqe = (void *)((char *)ring.sq.sqes +
		       (tail & ring.sq.ring_mask) * 128);
	((struct nvme_ng_uring_array *)sqe->cmd)->nr = n;
	sqe->user_data = n;
	nr_free -= n;
	for (; n; n--, cmd++) {
		slot = *--free_slot;
		lba = next_lba(&state, span, len);
		cmd->tag = slot;
		cmd->cmd.addr = slot * step;
		cmd->cmd.cdw10 = lba;
		cmd->cmd.cdw11 = lba >> 32;
	}
	seed = state;
	io_uring_smp_store_release(ring.sq.ktail, tail + 1);
}

static __always_inline unsigned int reap_results(struct device *device)
{
	const struct nvme_ng_ring_entry *e =
		(void *)(device->results + 1);
	unsigned int tail = io_uring_smp_load_acquire(&device->results->tail);
	unsigned int head = device->results->head, n = tail - head;
	unsigned int *free_slot = free_slots + nr_free;
	const unsigned int mask = ring_entries - 1;

	nr_free += n;
	for (; head != tail; head++) {
		if (e[head & mask].status)
			die(EIO, "status %d", e[head & mask].status);
		*free_slot++ = e[head & mask].tag;
	}
	io_uring_smp_store_release(&device->results->head, head);
	return n;
}

static void run_array(void)
{
	unsigned int left = opt.count, flying = 0, at = 0, head, n, wait, i;
	const struct io_uring_cqe *cqe;

	while (left || flying) {
		n = opt.depth - flying;
		if (n > opt.batch)
			n = opt.batch;
		if (n > left)
			n = left;
		if (n)
			fill_array(&devices[*ring.sq.ktail % nr_devices], n);
		flying += n;
		left -= n;
		wait = flying == opt.depth || !left;
		enter(!!n, wait);
		head = *ring.cq.khead;
		at = io_uring_smp_load_acquire(ring.cq.ktail);
		for (; head != at; head++) {
			cqe = (void *)((char *)ring.cq.cqes +
				       (head & ring.cq.ring_mask) * 32);
			if (cqe->res != (int)cqe->user_data)
				die(cqe->res < 0 ? -cqe->res : EIO,
				    "%d of an array", cqe->res);
		}
		io_uring_smp_store_release(ring.cq.khead, head);
		for (i = 0; i < nr_devices; i++)
			flying -= reap_results(&devices[i]);
	}
}

static void run_ioctl(void)
{
	struct nvme_passthru_cmd64 cmd = {
		.opcode = 2, .nsid = devices->nsid, .addr = (uintptr_t)buf,
		.data_len = opt.size, .cdw12 = blocks - 1,
	};
	unsigned int i;
	__u64 lba;
	long ret;

	for (i = 0; i < opt.count; i++) {
		lba = next_lba(&seed, lba_mask, blocks);
		cmd.cdw10 = lba;
		cmd.cdw11 = lba >> 32;
		ret = counted_syscall(__NR_ioctl, devices->fd,
				      NVME_IOCTL_IO64_CMD, (long)&cmd, 0);
		if (ret)
			die(ret < 0 ? -ret : EIO, "ioctl");
	}
}

static void setup_vfio(void)
{
	struct nvme_sqe sqe = {
		.opcode = 2, .nsid = 1, .cdw12 = blocks - 1, .len = opt.size,
		.flags = 1 << 6,	/* an SGL data block is in addr and len */
	};
	const char *failed;
	unsigned int i;
	uint64_t iova;

	failed = vfio_open(&queue, devices->name, buf,
			   (size_t)opt.depth * opt.size, &iova);
	if (failed)
		die(ENODEV, "%s: %s", devices->name, failed);
	for (i = 0; i < VFIO_ENTRIES; i++)
		queue.sqes[i] = sqe;
	base = calloc(1, sizeof(*base));
	if (!base)
		die(ENOMEM, "calloc");
	*base = iova;
	stride = opt.size;
}

static void vfio_submit(unsigned int n)
{
	const unsigned int span = lba_mask, len = blocks;
	unsigned int *free_slot = free_slots + nr_free;
	const __u64 from = *base, step = stride;
	struct nvme_sqe *sqes = queue.sqes, *sqe;
	unsigned int tail = queue.tail;
	__u64 state = seed, lba, slot;

	nr_free -= n;
	for (; n; n--) {
		sqe = sqes + tail++ % VFIO_ENTRIES;
		slot = *--free_slot;
		lba = next_lba(&state, span, len);
		sqe->cid = slot;
		sqe->addr = from + slot * step;
		sqe->cdw10 = lba;
		sqe->cdw11 = lba >> 32;
	}
	seed = state;
	queue.tail = tail;
	io_uring_smp_store_release(queue.sq_doorbell, tail % VFIO_ENTRIES);
}

static unsigned int vfio_reap(void)
{
	unsigned int *free_slot = free_slots + nr_free;
	const struct nvme_cqe *cqes = queue.cqes, *cqe;
	unsigned int head = queue.head, n = 0;
	uint16_t status;

	for (;;) {
		cqe = cqes + head % VFIO_ENTRIES;
		status = io_uring_smp_load_acquire(&cqe->status);
		/* the phase is 1 in the first round */
		if ((status & 1) == (head / VFIO_ENTRIES & 1))
			break;
		if (status >> 1)
			die(EIO, "completion with %#x", status >> 1);
		*free_slot++ = cqe->cid;
		head++;
		n++;
	}
	if (n) {
		nr_free += n;
		queue.head = head;
		io_uring_smp_store_release(queue.cq_doorbell,
					   head % VFIO_ENTRIES);
	}
	return n;
}

static void run_vfio(void)
{
	unsigned int left = opt.count, flying = 0, n;

	while (left || flying) {
		n = opt.depth - flying;
		if (n > opt.batch)
			n = opt.batch;
		if (n > left)
			n = left;
		if (n)
			vfio_submit(n);
		flying += n;
		left -= n;
		if (flying == opt.depth || !left)
			flying -= vfio_reap();
	}
}

static void run(void)
{
	if (opt.path == IOCTL)
		run_ioctl();
	else if (opt.path->array)
		run_array();
	else if (opt.path == VFIO)
		run_vfio();
	else if (opt.path == NOP)
		run_ring(true, false, false);
	else if (opt.path->block && opt.path->fixed)
		run_ring(false, true, true);
	else if (opt.path->block)
		run_ring(false, true, false);
	else if (opt.path->fixed)
		run_ring(false, false, true);
	else
		run_ring(false, false, false);
}

/*
 * Touch pages in an order in which neighbours come far from each other, so that
 * they are not neighbours in physical memory: by chance some would be, and the
 * cost of a read would depend on it.
 */
static void scatter(char *p, size_t pages)
{
	size_t i, at, n = 1;

	while (n < pages)
		n <<= 1;
	for (i = 0; i < n; i++) {
		at = i * 0x9e3779b1 & (n - 1);
		if (at < pages)
			p[at * PAGE_SIZE] = 0;
	}
}

static void *anonymous(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die(errno, "%zu bytes of memory", size);
	madvise(p, size, opt.thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (!opt.thp)
		scatter(p, (size + PAGE_SIZE - 1) / PAGE_SIZE);
	return p;
}

/* Is a page next to the one before it in physical memory?  Root is told. */
static bool has_neighbours(void *p, size_t size)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	__u64 entry, pfn, last = 0;
	bool found = false;
	size_t i;

	for (i = 0; i * PAGE_SIZE < size && !found; i++) {
		if (pread(fd, &entry, sizeof(entry), ((uintptr_t)p / PAGE_SIZE +
						     i) * sizeof(entry)) < 0)
			die(errno, "/proc/self/pagemap");
		pfn = entry & ((1ULL << 55) - 1);
		found = last && pfn == last + 1;
		last = pfn;
	}
	close(fd);
	return found;
}

static void *memory(size_t size)
{
	void *p = anonymous(size), *tried[8];
	int n = 0;

	/* what was freed before comes back in an order of its own */
	while (!opt.thp && n < 8 && has_neighbours(p, size)) {
		tried[n++] = p;
		p = anonymous(size);
	}
	while (n)
		munmap(tried[--n], size);
	memset(p, UNTOUCHED & 0xff, size);
	return p;
}

static void map_region(struct device *device)
{
	struct nvme_ng_map map = {
		.size = sizeof(map), .addr = (uintptr_t)buf,
		.len = (__u64)opt.depth * opt.size, .dmabuf_fd = -1,
	};

	if (ioctl(device->fd, NVME_NG_IOCTL_MAP, &map))
		die(errno, "%s: map", device->name);
	device->region = map.region;
}

static void make_array(struct device *device)
{
	struct nvme_ng_ring r = {
		.size = sizeof(r), .entry_size = sizeof(struct nvme_ng_ring_entry),
	};
	unsigned int i;

	for (ring_entries = 2; ring_entries < opt.depth; ring_entries *= 2)
		;
	r.entries = ring_entries;
	device->results = memory(sizeof(*device->results) +
				 r.entries * (size_t)r.entry_size);
	memset(device->results, 0, sizeof(*device->results));
	r.addr = (uintptr_t)device->results;
	if (ioctl(device->fd, NVME_NG_IOCTL_RING, &r))
		die(errno, "%s: ring", device->name);
	device->ring = r.ring;
	device->cmds = calloc(opt.batch, sizeof(*device->cmds));
	if (!device->cmds)
		die(ENOMEM, "memory");
	for (i = 0; i < opt.batch; i++)
		device->cmds[i].cmd = (struct nvme_ng_uring_cmd) {
			.opcode = 2, .nsid = device->nsid,
			.cdw12 = blocks - 1, .data_len = opt.size,
			.region = device->region,
		};
}

static void make_vectors(struct device *device)
{
	unsigned int i, n = opt.depth * opt.segments;
	size_t len = opt.size / opt.segments;

	device->iov = memory(n * sizeof(*device->iov));
	for (i = 0; i < n; i++) {
		if (opt.path->premap)
			device->segs[i] = (struct nvme_ng_segment) {
				device->region, len, i * len };
		else
			device->iov[i] = (struct iovec) { buf + i * len, len };
	}
}

static void open_device(struct device *device)
{
	device->fd = open(device->name, opt.path->block ?
			  O_RDONLY | O_DIRECT : O_RDONLY);
	if (device->fd < 0)
		die(errno, "%s", device->name);
	if (opt.path == NOP || opt.path->block)
		return;
	device->nsid = ioctl(device->fd, NVME_IOCTL_ID);
	if ((int)device->nsid < 0)
		die(errno, "%s", device->name);
	if (opt.path->premap)
		map_region(device);
	if (opt.path->vec)
		make_vectors(device);
	if (opt.path->array)
		make_array(device);
}

static void setup_ring(void)
{
	struct iovec *buffers;
	struct io_uring_params p = { .sq_thread_idle = 1000 };
	int fds[MAX_DEVICES], ret;
	unsigned int i;

	p.flags = IORING_SETUP_SINGLE_ISSUER;
	if (opt.path->cmd_op)
		p.flags |= IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	if (opt.poll)
		p.flags |= IORING_SETUP_IOPOLL;
	if (opt.sqpoll)
		p.flags |= IORING_SETUP_SQPOLL;
	else
		p.flags |= IORING_SETUP_DEFER_TASKRUN;
	p.flags |= IORING_SETUP_NO_SQARRAY;
	ret = io_uring_queue_init_params(opt.depth, &ring, &p);
	if (ret == -EINVAL) {
		p.flags &= ~IORING_SETUP_NO_SQARRAY;
		ret = io_uring_queue_init_params(opt.depth, &ring, &p);
	}
	if (ret)
		die(-ret, "io_uring_setup");
	ret = io_uring_register_ring_fd(&ring);
	if (ret != 1)
		die(-ret, "register ring");
	for (i = 0; i < nr_devices; i++)
		fds[i] = devices[i].fd;
	if (!opt.unregistered) {
		ret = io_uring_register_files(&ring, fds, nr_devices);
		if (ret)
			die(-ret, "register files");
	}
	/* One for each slot: 6.1 walks all of a buffer for every command. */
	if (opt.path->fixed) {
		buffers = calloc(opt.depth, sizeof(*buffers));
		for (i = 0; buffers && i < opt.depth; i++)
			buffers[i] = (struct iovec) { buf + i * (size_t)opt.size,
						      opt.size };
		ret = io_uring_register_buffers(&ring, buffers, opt.depth);
		if (ret)
			die(-ret, "register buffers");
		free(buffers);
	}

	base = calloc(ring.sq.ring_entries, sizeof(*base));
	if (!base)
		die(ENOMEM, "memory");
	for (i = 0; i < ring.sq.ring_entries; i++) {
		prepare_sqe(i);
		if (!(p.flags & IORING_SETUP_NO_SQARRAY))
			ring.sq.array[i] = i;
	}
	/* On one processor the kernel's thread would poll until the next tick. */
	if (opt.sqpoll && sched_setscheduler(0, SCHED_FIFO,
				&(struct sched_param){ .sched_priority = 1 }))
		die(errno, "real-time priority");
	stride = opt.path->vec ? opt.segments * sizeof(struct iovec) : opt.size;
	expect = opt.path->block ? opt.size : 0;
}

/* What the kernel does after a boot must be over. */
static void wait_idle(void)
{
	unsigned long long now[4], then[4] = {}, busy;
	int tries, i;
	FILE *stat;

	for (tries = 0; tries < 1000; tries++) {
		stat = fopen("/proc/stat", "r");
		if (!stat || fscanf(stat, "cpu %llu %llu %llu %llu", &now[0],
				    &now[1], &now[2], &now[3]) != 4)
			die(EIO, "/proc/stat");
		fclose(stat);
		for (i = 0, busy = 0; i < 3; i++)
			busy += now[i] - then[i];
		/* hundredths of a second */
		if (busy <= 1 && now[3] - then[3] >= 20)
			return;
		memcpy(then, now, sizeof(then));
		usleep(300000);
	}
	fputs("ngbench: the machine is not idle\n", stderr);
}

static void measure(void)
{
	uint64_t total, best = ~0ULL, best_inside = 0;
	const char *mode = opt.poll ? opt.sqpoll ? "poll+sq" : "poll" :
				      opt.sqpoll ? "irq+sq" : "irq";
	unsigned int i;

	run();
	if (opt.path != NOP &&
	    (*(uint64_t *)buf == UNTOUCHED ||
	     *(uint64_t *)(buf + opt.size - 8) == UNTOUCHED))
		die(ENODATA, "the device has not written to memory");
	for (i = 0; i < opt.repeats; i++) {
		inside = 0;
		calls = 0;
		MARK_START();
		total = __rdtsc();
		run();
		total = __rdtsc() - total;
		MARK_STOP();
		total -= calls * cost_all;
		inside -= calls * cost_inside;
		if (total < best) {
			best = total;
			best_inside = inside;
		}
	}
	MARK_END();
	printf("%-10s %-7s %7u %4u %4u %2u %8.0f %8.0f %8.0f\n",
	       opt.path->name, mode, opt.size, opt.depth, opt.batch, nr_devices,
	       (double)best / opt.count, (double)(best - best_inside) / opt.count,
	       (double)best_inside / opt.count);
}

static void usage(FILE *out)
{
	fputs("usage: ngbench [OPTION]... DEVICE...\n"
	      "Print path, mode, size, depth, batch, devices, and instructions\n"
	      "for each read: all, outside and inside of system calls.\n"
	      "  --path P        read, read-fixed (DEVICE is a block device); plain\n"
	      "                  (default), fixed, vec, vec-fixed, ioctl; premap,\n"
	      "                  premap-vec, array (our driver); nop (any file); vfio\n"
	      "                  (DEVICE is the PCI address of one that vfio-pci has)\n"
	      "  --poll          poll for completions, else interrupts\n"
	      "  --sqpoll        a kernel thread submits\n"
	      "  --unregistered  files are not registered with the ring\n"
	      "  --size N        bytes of a read, a power of two, default 512\n"
	      "  --depth N       reads in flight, default 128\n"
	      "  --batch N       reads for each system call, default 32\n"
	      "  --segments N    elements of a vector, default 1\n"
	      "  --thp           use huge pages, else no two pages are neighbours\n"
	      "  --count N       reads in a repeat, default 256\n"
	      "  --repeats N     the smallest of N is printed, default 32\n"
	      "  --lba N         bytes of a logical block, default 512\n"
	      "  --header        print what the columns are\n", out);
}

static unsigned int number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (*end || !n || n > 1 << 30) {
		usage(stderr);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "path", 1, NULL, 'p' }, { "poll", 0, NULL, 'i' },
		{ "sqpoll", 0, NULL, 'q' }, { "unregistered", 0, NULL, 'u' },
		{ "size", 1, NULL, 's' }, { "depth", 1, NULL, 'd' },
		{ "batch", 1, NULL, 'b' }, { "segments", 1, NULL, 'e' },
		{ "thp", 0, NULL, 't' }, { "count", 1, NULL, 'c' },
		{ "repeats", 1, NULL, 'r' }, { "lba", 1, NULL, 'l' },
		{ "header", 0, NULL, 'H' }, { "help", 0, NULL, 'h' }, { },
	};
	unsigned int i;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			for (i = 0; i < ARRAY_SIZE(paths); i++)
				if (!strcmp(optarg, paths[i].name))
					break;
			if (i == ARRAY_SIZE(paths)) {
				usage(stderr);
				return 2;
			}
			opt.path = &paths[i];
			break;
		case 'i': opt.poll = true; break;
		case 'q': opt.sqpoll = true; break;
		case 'u': opt.unregistered = true; break;
		case 's': opt.size = number(optarg); break;
		case 'd': opt.depth = number(optarg); break;
		case 'b': opt.batch = number(optarg); break;
		case 'e': opt.segments = number(optarg); break;
		case 't': opt.thp = true; break;
		case 'c': opt.count = number(optarg); break;
		case 'r': opt.repeats = number(optarg); break;
		case 'l': opt.lba_size = number(optarg); break;
		case 'H':
			puts("path       mode       size  dep  bat  n      all  outside   inside");
			break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	nr_devices = argc - optind;
	if (!nr_devices || nr_devices > MAX_DEVICES ||
	    opt.size & (opt.size - 1) || opt.size > SPAN ||
	    opt.size % opt.lba_size || opt.size % opt.segments ||
	    (opt.path == VFIO && opt.depth >= VFIO_ENTRIES)) {
		usage(stderr);
		return 2;
	}
	if (opt.path == IOCTL)
		opt.depth = opt.batch = 1;
	if (opt.batch > opt.depth)
		opt.batch = opt.depth;
	blocks = opt.size / opt.lba_size;
	lba_mask = SPAN / opt.size - 1;
	buf = memory((size_t)opt.depth * opt.size);
	free_slots = calloc(opt.depth, sizeof(*free_slots));
	if (!free_slots)
		die(ENOMEM, "memory");
	for (i = opt.depth; i; i--)
		free_slots[nr_free++] = i - 1;
	for (i = 0; i < nr_devices; i++) {
		devices[i].name = argv[optind + i];
		if (opt.path != VFIO)
			open_device(&devices[i]);
	}
	if (opt.path == VFIO)
		setup_vfio();
	else if (opt.path != IOCTL)
		setup_ring();
	wait_idle();
	calibrate();
	measure();
	return 0;
}
