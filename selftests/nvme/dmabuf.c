// SPDX-License-Identifier: GPL-2.0
/*
 * Regions of dma-bufs: how often these are mapped and whom they count for, what
 * the device may write, when it may begin to, and that the exporter can take
 * them back.
 *
 * Most of it takes an exporter that is made for it, /dev/dmabuf_exporter. With
 * --vfio=ADDRESS it is vfio-pci, for BAR 2 of that device, which has memory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "dmabuf_exporter.h"
#include "region.h"

#define SIZE		(16 * NT_PAGE)
#define LEN		NT_PAGE
#define FLIGHT		16
#define DELAY_MS	700
#define FEATURE_INJECT	0xc0

/* <linux/vfio.h> of Linux 6.19 */
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

struct vfio_region_dma_range {
	__u64 offset;
	__u64 length;
};

struct vfio_device_feature_dma_buf {
	__u32 region_index;
	__u32 open_flags;
	__u32 flags;
	__u32 nr_ranges;
	struct vfio_region_dma_range dma_ranges[];
};
#endif

/* rules of the test bed's devices */
struct rule {
	__le32 nsid;
	__u8 admin;
	__u8 opcode;
	__le16 status;
	__le32 delay_ms;
	__le32 count;
};

/* a dma-buf, from which side ever */
struct buf {
	int exporter;
	int fd;
	unsigned char *at;
};

static struct nt_ring ring;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void make(struct buf *b, __u32 flags, __u32 mode, __u64 size)
{
	struct exporter_make make = { flags, mode, size };

	b->exporter = open("/dev/dmabuf_exporter", O_RDWR | O_CLOEXEC);
	if (b->exporter < 0)
		nt_skip("there is no dmabuf_exporter");
	b->fd = ioctl(b->exporter, EXPORTER_MAKE, &make);
	if (b->fd < 0)
		nt_fail("cannot make a dma-buf: %m");
	b->at = NULL;
	if (flags & (EXPORTER_LONG | EXPORTER_ODD))
		return;
	b->at = mmap(NULL, size, PROT_READ | (mode == O_RDWR ? PROT_WRITE : 0),
		     MAP_SHARED, b->fd, 0);
	if (b->at == MAP_FAILED)
		nt_fail("cannot mmap the dma-buf: %m");
}

static void drop(struct buf *b)
{
	if (b->at)
		munmap(b->at, SIZE);
	if (b->fd >= 0)
		close(b->fd);
	close(b->exporter);
}

static void state(const struct buf *b, struct exporter_state *s)
{
	if (ioctl(b->exporter, EXPORTER_STATE, s))
		nt_fail("EXPORTER_STATE: %m");
}

#define expect(b, attached, mapped, writable) \
	expect_at(__LINE__, b, attached, mapped, writable)
static void expect_at(int line, const struct buf *b, __u32 attached,
		      __u32 mapped, __u32 writable)
{
	struct exporter_state s;

	state(b, &s);
	if (s.attached != attached || s.mapped != mapped ||
	    s.writable != writable)
		nt_fail("line %d: attached %u times, mapped %u, for writing %u; expected %u, %u, %u",
			line, s.attached, s.mapped, s.writable, attached,
			mapped, writable);
}

static int map(int fd, const struct buf *b, __u32 flags, __u64 at, __u64 len,
	       __u32 *region, __u32 *granule)
{
	struct nvme_ng_map m = {
		.size = sizeof(m),
		.flags = NVME_NG_MAP_DMABUF | flags,
		.addr = at,
		.len = len,
		.dmabuf_fd = b->fd,
	};
	int ret = ioctl(fd, NVME_NG_IOCTL_MAP, &m) ? -errno : 0;

	*region = m.region;
	if (granule)
		*granule = m.granule;
	return ret;
}

static void put(const struct nt_ns *ns, __u8 opcode, __u32 region, __u64 at,
		unsigned int block)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.nsid = ns->nsid,
		.addr = at,
		.data_len = LEN,
		.cdw3 = LEN,
		.cdw10 = block,
		.cdw12 = LEN / 512 - 1,
	};

	nt_region_put(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd, region, 0);
}

static int run(const struct nt_ns *ns, __u8 opcode, __u32 region, __u64 at)
{
	unsigned int name;
	int res;

	put(ns, opcode, region, at, 0);
	nt_ring_submit(&ring);
	if (!nt_ring_reap(&ring, 60000, &name, &res))
		nt_die("no completion within 60 s");
	return res < 0 ? res : res & NVME_SC_MASK;
}

/* Without a region: what is in the first blocks. */
static void plain(const struct nt_ns *ns, __u8 opcode, void *data)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.nsid = ns->nsid,
		.addr = (uintptr_t)data,
		.data_len = LEN,
		.cdw3 = LEN,
		.cdw12 = LEN / 512 - 1,
	};

	nt_status(nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

static void all_are(const unsigned char *at, size_t len, unsigned char byte)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (at[i] != byte)
			nt_fail("byte %zu is %02x, expected %02x", i, at[i],
				byte);
}

static bool slow_in(const char *class, const struct nt_ns *ns, __u32 ms)
{
	static struct rule rules[256];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)rules,
		.data_len = sizeof(rules),
		.cdw10 = FEATURE_INJECT,
	};
	char serial[sizeof(ns->dev.serial)];
	char path[300];
	struct dirent *e;
	bool any = false;
	DIR *dir = opendir(class);
	int fd;

	memset(rules, 0, sizeof(rules));
	if (ms)
		rules[0] = (struct rule) {
			.nsid = htole32(ns->nsid),
			.opcode = NVME_CMD_READ,
			.delay_ms = htole32(ms),
		};
	while (dir && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", class, e->d_name);
		if (e->d_name[0] == '.' ||
		    !nt_serial(path, serial, sizeof(serial)) ||
		    strcmp(serial, ns->dev.serial))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		any = fd >= 0 &&
			!nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL);
		close(fd);
	}
	if (dir)
		closedir(dir);
	return any;
}

/* Reads take a while from now on, on a device of the test bed. */
static void slow(const struct nt_ns *ns, __u32 ms)
{
	if (!ns->testbed)
		nt_skip("commands can be delayed in the test bed only");
	if (!slow_in("/sys/class/nvme", ns, ms))
		nt_fail("cannot delay commands");
}

/* Cases */

/* One attachment serves all regions of a file that are mapped one way. */
static void run_shared(void *arg)
{
	struct nt_ns *ns = arg;
	__u32 region[8], other;
	struct buf b;
	int fd, i;

	make(&b, 0, O_RDWR, SIZE);
	for (i = 0; i < 8; i++)
		nt_status(map(ns->dev.fd, &b, 0, i * LEN, LEN, &region[i], NULL),
			  0);
	expect(&b, 1, 1, 1);
	/* the device must not write to all of it for who only reads */
	nt_status(map(ns->dev.fd, &b, NVME_NG_MAP_READ_ONLY, 0, SIZE, &other,
		      NULL), 0);
	expect(&b, 2, 2, 1);
	nt_status(nt_unmap(ns->dev.fd, other), 0);
	expect(&b, 1, 1, 1);
	fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	nt_status(map(fd, &b, 0, 0, SIZE, &other, NULL), 0);
	expect(&b, 2, 2, 2);
	close(fd);
	expect(&b, 1, 1, 1);
	/* each region is another part */
	memset(b.at, 0x22, SIZE);
	for (i = 0; i < 8; i++) {
		memset(b.at + i * LEN, i + 1, LEN);
		nt_status(run(ns, NVME_CMD_WRITE, region[i], 0), 0);
		memset(b.at + i * LEN, 0x22, LEN);
		nt_status(run(ns, NVME_CMD_READ, region[i], 0), 0);
		all_are(b.at + i * LEN, LEN, i + 1);
		nt_status(nt_unmap(ns->dev.fd, region[i]), 0);
		expect(&b, i < 7, i < 7, i < 7);
	}
	all_are(b.at + 8 * LEN, SIZE - 8 * LEN, 0x22);
	drop(&b);
}

/* Descriptors can be closed in any order, in any process. */
static void run_closed(void *arg)
{
	struct nt_ns *ns = arg;
	struct buf b, kept;
	__u32 region;
	pid_t child;
	int fd, i;

	for (i = 0; i < 2; i++) {
		make(&b, i ? EXPORTER_PINS : 0, O_RDWR, SIZE);
		fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
		nt_status(map(fd, &b, 0, 0, SIZE, &region, NULL), 0);
		kept = b;
		kept.exporter = dup(b.exporter);
		drop(&b);
		child = fork();
		if (!child) {
			/* the last of the file is here */
			usleep(100000);
			_exit(0);
		}
		close(fd);
		expect(&kept, 1, 1, 1);
		waitpid(child, NULL, 0);
		expect(&kept, 0, 0, 0);
		close(kept.exporter);
	}
}

static void memlock(void *arg)
{
	struct rlimit limit = { SIZE + LEN, SIZE + LEN };
	struct nt_ns *ns = arg;
	__u32 region[3], other;
	struct buf b, small;
	int i, status;

	make(&b, EXPORTER_PINS, O_RDWR, SIZE);
	make(&small, 0, O_RDWR, LEN);
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		nt_fail("setrlimit: %m");
	for (i = 0; i < 2; i++) {
		/* one byte is all of it, but only once */
		nt_status(map(ns->dev.fd, &b, 0, 5, 1, &region[0], NULL), 0);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &region[1], NULL), 0);
		nt_status(map(ns->dev.fd, &b, NVME_NG_MAP_READ_ONLY, 0, 1,
			      &other, NULL), -ENOMEM);
		expect(&b, 1, 1, 1);
		nt_status(map(ns->dev.fd, &small, 0, 0, 1, &region[2], NULL),
			  0);
		nt_status(nt_unmap(ns->dev.fd, region[0]), 0);
		nt_status(nt_map(ns->dev.fd, 0, &other, 1, &other), -ENOMEM);
		nt_status(nt_unmap(ns->dev.fd, region[1]), 0);
		nt_status(nt_unmap(ns->dev.fd, region[2]), 0);
	}
	/* what was taken back does not count any more */
	nt_status(map(ns->dev.fd, &b, 0, 0, 1, &region[0], NULL), 0);
	nt_eq(ioctl(b.exporter, EXPORTER_REVOKE), 0);
	nt_eq(ioctl(b.exporter, EXPORTER_RESTORE), 0);
	/* the exporter does not wait until it is given back */
	for (i = 0; i < 1000; i++) {
		status = map(ns->dev.fd, &b, 0, 0, 1, &region[1], NULL);
		if (status != -ENOMEM)
			break;
		usleep(10000);
	}
	nt_status(status, 0);
	nt_status(nt_unmap(ns->dev.fd, region[0]), 0);
	nt_status(nt_unmap(ns->dev.fd, region[1]), 0);
	drop(&small);
	drop(&b);
}

/* All pages of the dma-buf count, once. */
static void run_memlock(void *arg)
{
	struct nt_ns *ns = arg, theirs = *ns;

	theirs.dev.fd = nt_open_as(&ns->dev, NT_TESTER, O_RDWR);
	if (theirs.dev.fd < 0)
		nt_fail("cannot open %s: %s", ns->dev.path,
			strerror(-theirs.dev.fd));
	nt_as(NT_TESTER, memlock, &theirs);
	close(theirs.dev.fd);
}

/* Who cannot write to the dma-buf cannot have the device do it. */
static void run_mode(void *arg)
{
	struct nt_ns *ns = arg;
	struct buf b;
	__u32 region;
	int i;

	for (i = 0; i < 2; i++) {
		make(&b, i ? EXPORTER_PINS : 0, O_RDONLY, SIZE);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &region, NULL),
			  -EACCES);
		expect(&b, 0, 0, 0);
		nt_status(map(ns->dev.fd, &b, NVME_NG_MAP_READ_ONLY, 0, SIZE,
			      &region, NULL), 0);
		expect(&b, 1, 1, 0);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), 0);
		nt_status(run(ns, NVME_CMD_READ, region, 0), -EFAULT);
		nt_status(nt_unmap(ns->dev.fd, region), 0);
		drop(&b);
	}
}

struct mapping {
	struct nt_ns *ns;
	struct buf *b;
	__u32 region;
	int ret;
	volatile bool done;
};

static void *map_thread(void *arg)
{
	struct mapping *m = arg;

	m->ret = map(m->ns->dev.fd, m->b, 0, 0, SIZE, &m->region, NULL);
	m->done = true;
	return NULL;
}

static void wait_mapped(const struct buf *b)
{
	struct exporter_state s;
	int i;

	for (i = 0; i < 1000; i++) {
		state(b, &s);
		if (s.mapped)
			return;
		usleep(10000);
	}
	nt_fail("not mapped within 10 s");
}

/* No command uses memory that is still being moved. */
static void run_moved(void *arg)
{
	unsigned char *data = nt_alloc(LEN, 0);
	struct nt_ns *ns = arg;
	struct buf b;
	struct mapping m = { .ns = ns, .b = &b };
	__u32 region;
	pthread_t t;

	make(&b, EXPORTER_PINS | EXPORTER_MOVES, O_RDWR, SIZE);
	pthread_create(&t, NULL, map_thread, &m);
	wait_mapped(&b);
	/* others are not held up, by the same file either */
	nt_status(nt_map(ns->dev.fd, 0, data, LEN, &region), 0);
	nt_status(run(ns, NVME_CMD_WRITE, region, 0), 0);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	usleep(100000);
	if (m.done)
		nt_fail("mapped while the exporter moves it: %d", m.ret);
	nt_eq(ioctl(b.exporter, EXPORTER_SETTLE), 0);
	pthread_join(t, NULL);
	nt_status(m.ret, 0);
	nt_status(run(ns, NVME_CMD_WRITE, m.region, 0), 0);
	plain(ns, NVME_CMD_READ, data);
	all_are(data, LEN, 0xee);
	nt_status(nt_unmap(ns->dev.fd, m.region), 0);
	expect(&b, 0, 0, 0);
	drop(&b);
}

static void nothing(int sig)
{
	(void)sig;
}

/* Who waits for that can be interrupted. */
static void run_interrupted(void *arg)
{
	struct sigaction act = { .sa_handler = nothing };
	struct nt_ns *ns = arg;
	struct buf b;
	struct mapping m = { .ns = ns, .b = &b };
	pthread_t t;
	int i;

	sigaction(SIGUSR1, &act, NULL);
	make(&b, EXPORTER_PINS | EXPORTER_MOVES, O_RDWR, SIZE);
	pthread_create(&t, NULL, map_thread, &m);
	wait_mapped(&b);
	/* one that comes before it waits is of no use */
	for (i = 0; i < 100 && !m.done; i++) {
		pthread_kill(t, SIGUSR1);
		usleep(50000);
	}
	if (!m.done)
		nt_die("a signal did not interrupt the ioctl");
	pthread_join(t, NULL);
	nt_status(m.ret, -EINTR);
	expect(&b, 0, 0, 0);
	nt_eq(ioctl(b.exporter, EXPORTER_SETTLE), 0);
	drop(&b);
}

/* Pieces of any length, and such as the controller cannot take. */
static void run_pieces(void *arg)
{
	static const __u64 at[] = { 0, 5 * NT_PAGE, (1ULL << 32) - 4096,
				    1ULL << 32, (3ULL << 32) + 8192 };
	const __u64 size = 5ULL << 32;
	struct nt_ns *ns = arg;
	__u32 region, granule;
	struct buf b;
	size_t i;

	make(&b, EXPORTER_LONG, O_RDWR, size);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		nt_status(map(ns->dev.fd, &b, 0, at[i], size - at[i], &region,
			      &granule), 0);
		nt_eq(granule, 0);
		nt_status(nt_unmap(ns->dev.fd, region), 0);
	}
	nt_status(map(ns->dev.fd, &b, 0, size, 1, &region, NULL), -EINVAL);
	nt_status(map(ns->dev.fd, &b, 0, 1, size, &region, NULL), -EINVAL);
	expect(&b, 0, 0, 0);
	drop(&b);

	make(&b, EXPORTER_ODD, O_RDWR, SIZE);
	nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &region, NULL), -EINVAL);
	/* within a piece */
	nt_status(map(ns->dev.fd, &b, 0, 0, 6144, &region, NULL), 0);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	expect(&b, 0, 0, 0);
	drop(&b);
}

/* Memory that was taken back is not there any more. */
static void run_revoked(void *arg)
{
	struct nt_ns *ns = arg;
	__u32 region, same, other;
	struct buf b;
	int i;

	for (i = 0; i < 2; i++) {
		make(&b, i ? EXPORTER_PINS : 0, O_RDWR, SIZE);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &region, NULL), 0);
		nt_status(map(ns->dev.fd, &b, 0, LEN, LEN, &same, NULL), 0);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), 0);
		nt_eq(ioctl(b.exporter, EXPORTER_REVOKE), 0);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), -ENOENT);
		nt_status(run(ns, NVME_CMD_READ, same, 0), -ENOENT);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &other, NULL),
			  -ENODEV);
		nt_eq(ioctl(b.exporter, EXPORTER_REVOKE), 0);
		/* another one, the old ones stay what they are */
		nt_eq(ioctl(b.exporter, EXPORTER_RESTORE), 0);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &other, NULL), 0);
		nt_status(run(ns, NVME_CMD_WRITE, other, 0), 0);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), -ENOENT);
		nt_status(nt_unmap(ns->dev.fd, region), 0);
		nt_status(nt_unmap(ns->dev.fd, same), 0);
		nt_status(nt_unmap(ns->dev.fd, other), 0);
		expect(&b, 0, 0, 0);
		drop(&b);
	}
}

static void *revoke_thread(void *arg)
{
	struct mapping *m = arg;

	m->ret = ioctl(m->b->exporter, EXPORTER_REVOKE) ? -errno : 0;
	m->done = true;
	return NULL;
}

/*
 * Commands in flight are waited for, others fail meanwhile; whether the ring
 * polls or not, and what was unmapped before.
 */
static void run_revoked_in_flight(void *arg)
{
	unsigned int setup[] = { 0, IORING_SETUP_IOPOLL };
	unsigned int i, j, k, name, good = 0, gone = 0;
	unsigned char *data = nt_alloc(LEN, 0);
	struct nt_ns *ns = arg;
	__u32 region, second;
	double began;
	struct buf b;
	struct mapping m = { .ns = ns, .b = &b };
	pthread_t t;
	int res;

	memset(data, 0x77, LEN);
	plain(ns, NVME_CMD_WRITE, data);
	for (i = 0; i < 2 * ARRAY_SIZE(setup); i++) {
		j = i / 2;
		good = 0;
		gone = 0;
		nt_ring_close(&ring);
		nt_ring_open(&ring, 64, setup[j]);
		make(&b, EXPORTER_PINS, O_RDWR, SIZE);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &region, NULL), 0);
		nt_status(map(ns->dev.fd, &b, 0, 0, SIZE, &second, NULL), 0);
		memset(b.at, 0, SIZE);
		slow(ns, DELAY_MS);
		began = now();
		for (k = 0; k < FLIGHT; k++)
			put(ns, NVME_CMD_READ, region, k * LEN, 0);
		nt_ring_submit(&ring);
		if (i % 2)
			nt_status(nt_unmap(ns->dev.fd, region), 0);
		m.done = false;
		pthread_create(&t, NULL, revoke_thread, &m);
		usleep(100000);
		put(ns, NVME_CMD_READ, second, 0, 0);
		nt_ring_submit(&ring);
		if (!(setup[j] & IORING_SETUP_IOPOLL)) {
			if (!nt_ring_reap(&ring, 300, &name, &res))
				nt_fail("a command on a revoked region waits");
			nt_status(res, -ENOENT);
			gone++;
		}
		if (m.done && now() - began < DELAY_MS / 1000. - 0.2)
			nt_fail("revoked with commands in flight: %d", m.ret);
		while (ring.flying) {
			if (!nt_ring_reap(&ring, 60000, &name, &res))
				nt_die("commands do not complete");
			if (res == -ENOENT)
				gone++;
			else
				nt_status(res, 0);
			good += !res;
		}
		nt_eq(gone, 1);
		nt_eq(good, FLIGHT);
		pthread_join(t, NULL);
		nt_status(m.ret, 0);
		if (now() - began > 10)
			nt_fail("revoking took %.1f s", now() - began);
		all_are(b.at, SIZE, 0x77);
		slow(ns, 0);
		if (!(i % 2))
			nt_status(nt_unmap(ns->dev.fd, region), 0);
		nt_status(nt_unmap(ns->dev.fd, second), 0);
		expect(&b, 0, 0, 0);
		drop(&b);
	}
}

/* It is mapped, used, unmapped and taken back all at the same time. */
static void run_race(void *arg)
{
	struct nt_ns *ns = arg;
	struct exporter_state s;
	unsigned int i, round, used = 0;
	__u32 region[2];
	struct buf b;
	pid_t child;
	int ret, st;
	bool *stop;

	stop = mmap(NULL, NT_PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	make(&b, EXPORTER_PINS, O_RDWR, SIZE);
	child = fork();
	if (!child) {
		for (i = 0; !__atomic_load_n(stop, __ATOMIC_RELAXED); i++)
			if (ioctl(b.exporter, EXPORTER_REVOKE) ||
			    ioctl(b.exporter, EXPORTER_RESTORE) ||
			    usleep(i % 8 * 700))
				_exit(1);
		_exit(0);
	}
	for (round = 0; round < 100 || (!used && round < 100000); round++) {
		close(ns->dev.fd);
		ns->dev.fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
		for (i = 0; i < 2; i++) {
			ret = map(ns->dev.fd, &b, 0, 0, SIZE, &region[i], NULL);
			if (ret)
				nt_status(ret, -ENODEV);
			else
				used++;
		}
		for (i = 0; i < 8; i++) {
			ret = run(ns, NVME_CMD_WRITE, region[i % 2], 0);
			if (ret)
				nt_status(ret, -ENOENT);
			if (i == 5)
				nt_unmap(ns->dev.fd, region[0]);
		}
	}
	__atomic_store_n(stop, true, __ATOMIC_RELAXED);
	waitpid(child, &st, 0);
	nt_eq(st, 0);
	close(ns->dev.fd);
	ns->dev.fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 100; i++) {
		state(&b, &s);
		if (!s.attached)
			break;
		usleep(20000);
	}
	expect(&b, 0, 0, 0);
	if (!used)
		nt_fail("never mapped");
	munmap(stop, NT_PAGE);
	drop(&b);
}

/* With vfio-pci */

static const char *vfio_address;

/**
 * struct bar - BAR 2 of a device that vfio-pci has
 * @container: its IOMMU
 * @group: its group
 * @dev: the device
 * @command: where @dev has the Command register
 * @buf: the BAR
 */
struct bar {
	int container, group, dev;
	off_t command;
	struct buf buf;
};

static void set_memory(struct bar *bar, bool on)
{
	__u16 command;

	if (pread(bar->dev, &command, 2, bar->command) != 2)
		nt_fail("cannot read the Command register: %m");
	command &= ~PCI_COMMAND_MEMORY;
	command |= PCI_COMMAND_MASTER | (on ? PCI_COMMAND_MEMORY : 0);
	if (pwrite(bar->dev, &command, 2, bar->command) != 2)
		nt_fail("cannot write the Command register: %m");
}

static void export_bar(struct bar *bar, __u64 offset)
{
	struct {
		struct vfio_device_feature f;
		struct vfio_device_feature_dma_buf d;
		struct vfio_region_dma_range range;
	} get = {
		.f.argsz = sizeof(get),
		.f.flags = VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_DMA_BUF,
		.d.region_index = VFIO_PCI_BAR2_REGION_INDEX,
		.d.open_flags = O_RDWR | O_CLOEXEC,
		.d.nr_ranges = 1,
		.range = { offset, SIZE },
	};

	bar->buf.fd = ioctl(bar->dev, VFIO_DEVICE_FEATURE, &get);
	if (bar->buf.fd < 0)
		nt_fail("vfio-pci exports no dma-buf: %m");
}

static void open_bar(struct bar *bar)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_region_info mem = {
		.argsz = sizeof(mem),
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	char path[300], link[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
		 vfio_address);
	n = readlink(path, link, sizeof(link) - 1);
	link[n < 0 ? 0 : n] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	bar->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	bar->group = open(path, O_RDWR | O_CLOEXEC);
	if (ioctl(bar->group, VFIO_GROUP_SET_CONTAINER, &bar->container) ||
	    ioctl(bar->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		nt_fail("%s: %m", path);
	bar->dev = ioctl(bar->group, VFIO_GROUP_GET_DEVICE_FD, vfio_address);
	if (bar->dev < 0 ||
	    ioctl(bar->dev, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    ioctl(bar->dev, VFIO_DEVICE_GET_REGION_INFO, &mem))
		nt_fail("%s: %m", vfio_address);
	bar->command = config.offset + PCI_COMMAND;
	set_memory(bar, true);
	bar->buf.exporter = -1;
	bar->buf.at = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   bar->dev, mem.offset);
	if (bar->buf.at == MAP_FAILED)
		nt_fail("cannot mmap the BAR: %m");
}

static void close_bar(struct bar *bar)
{
	munmap(bar->buf.at, 2 * SIZE);
	close(bar->buf.fd);
	close(bar->dev);
	close(bar->group);
	close(bar->container);
}

/* The controller reads and writes the memory of another device. */
static void run_vfio_data(void *arg)
{
	unsigned char *data = nt_alloc(LEN, 0);
	struct nt_ns *ns = arg;
	__u32 region, granule;
	struct bar bar;

	open_bar(&bar);
	/* a part of the BAR, and a part of that */
	export_bar(&bar, SIZE);
	nt_status(map(ns->dev.fd, &bar.buf, 0, LEN, 2 * LEN, &region, &granule),
		  0);
	nt_eq(granule, 0);
	nt_fill(data, LEN, 1);
	plain(ns, NVME_CMD_WRITE, data);
	memset(bar.buf.at, 0, 2 * SIZE);
	nt_status(run(ns, NVME_CMD_READ, region, LEN), 0);
	nt_same(bar.buf.at + SIZE + 2 * LEN, data, LEN);
	all_are(bar.buf.at, SIZE + 2 * LEN, 0);
	nt_fill(data, LEN, 2);
	memcpy(bar.buf.at + SIZE + LEN, data, LEN);
	nt_status(run(ns, NVME_CMD_WRITE, region, 0), 0);
	memset(data, 0, LEN);
	plain(ns, NVME_CMD_READ, data);
	nt_same(data, bar.buf.at + SIZE + LEN, LEN);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	close_bar(&bar);
}

/* Each way to make vfio-pci take it back, and once with commands in flight. */
static void run_vfio_revoked(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned int i, k;
	struct bar bar;
	double began;
	__u32 region;
	int res;

	open_bar(&bar);
	export_bar(&bar, 0);
	for (i = 0; i < 3; i++) {
		nt_status(map(ns->dev.fd, &bar.buf, 0, 0, SIZE, &region, NULL),
			  0);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), 0);
		slow(ns, i == 2 ? DELAY_MS : 0);
		for (k = 0; i == 2 && k < FLIGHT; k++)
			put(ns, NVME_CMD_READ, region, k * LEN, 0);
		nt_ring_submit(&ring);
		began = now();
		if (i == 1 && ioctl(bar.dev, VFIO_DEVICE_RESET))
			nt_fail("cannot reset the device: %m");
		set_memory(&bar, false);
		if (now() - began > 10)
			nt_fail("revoking took %.1f s", now() - began);
		if (i == 2 && now() - began < DELAY_MS / 1000. - 0.2)
			nt_fail("revoked with commands in flight");
		while (ring.flying) {
			if (!nt_ring_reap(&ring, 60000, &k, &res))
				nt_die("commands do not complete");
			nt_status(res, 0);
		}
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), -ENOENT);
		set_memory(&bar, true);
		nt_status(run(ns, NVME_CMD_WRITE, region, 0), -ENOENT);
		nt_status(nt_unmap(ns->dev.fd, region), 0);
	}
	slow(ns, 0);
	close_bar(&bar);
}

/* A process that has all of it ends, with commands in flight. */
static void run_vfio_exit(void *arg)
{
	struct nt_ns *ns = arg;
	struct bar bar;
	__u32 region;
	double began;
	pid_t child;
	int i, st;

	slow(ns, DELAY_MS);
	child = fork();
	if (!child) {
		ns->dev.fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
		nt_ring_open(&ring, 64, IORING_SETUP_IOPOLL);
		open_bar(&bar);
		export_bar(&bar, 0);
		if (map(ns->dev.fd, &bar.buf, 0, 0, SIZE, &region, NULL))
			_exit(1);
		for (i = 0; i < FLIGHT; i++)
			put(ns, NVME_CMD_READ, region, i * LEN, 0);
		nt_ring_submit(&ring);
		_exit(0);
	}
	began = now();
	while (waitpid(child, &st, WNOHANG) != child) {
		if (now() - began > 40)
			nt_die("a process has not ended within 40 s");
		usleep(50000);
	}
	nt_eq(st, 0);
	slow(ns, 0);
	/* nothing keeps the device from being used again */
	run_vfio_data(ns);
}

struct one {
	const char *name;
	void (*run)(void *arg);
};

static const struct one vfio_cases[] = {
	{ "data", run_vfio_data },
	{ "revoked", run_vfio_revoked },
	{ "exit", run_vfio_exit },
};

/* Last, for it has another node afterwards: the controller is removed. */
static void run_removed(void *arg)
{
	struct nt_ns *ns = arg;
	struct buf b[2];
	__u32 region, other;
	char path[600];
	FILE *f;
	int i;

	for (i = 0; i < 2; i++) {
		make(&b[i], i ? EXPORTER_PINS : 0, O_RDWR, SIZE);
		nt_status(map(ns->dev.fd, &b[i], 0, 0, SIZE, &region, NULL), 0);
		nt_status(map(ns->dev.fd, &b[i], NVME_NG_MAP_READ_ONLY, 0, SIZE,
			      &other, NULL), 0);
		expect(&b[i], 2, 2, 1);
	}
	snprintf(path, sizeof(path), "%s/device/device/remove", ns->dev.sysfs);
	f = fopen(path, "w");
	if (!f || fputs("1", f) < 0 || fclose(f))
		nt_fail("cannot remove the controller: %s: %m", path);
	for (i = 0; i < 2; i++) {
		expect(&b[i], 0, 0, 0);
		nt_eq(ioctl(b[i].exporter, EXPORTER_REVOKE), 0);
	}
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	for (i = 0; i < 2; i++)
		drop(&b[i]);
	f = fopen("/sys/bus/pci/rescan", "w");
	if (!f || fputs("1", f) < 0 || fclose(f))
		nt_fail("cannot find the controller again: %m");
}

static const struct one removing[] = {
	{ "removed", run_removed },
};

static const struct one exporter_cases[] = {
	{ "shared", run_shared },
	{ "closed", run_closed },
	{ "memlock", run_memlock },
	{ "mode", run_mode },
	{ "moved", run_moved },
	{ "interrupted", run_interrupted },
	{ "pieces", run_pieces },
	{ "revoked", run_revoked },
	{ "revoked_in_flight", run_revoked_in_flight },
	{ "race", run_race },
};

static const struct one *cases = exporter_cases;
static size_t nr_cases = ARRAY_SIZE(exporter_cases);
static const char *only = "";

static bool option(const char *arg)
{
	if (!strncmp(arg, "--only=", 7)) {
		only = arg + 7;
	} else if (!strncmp(arg, "--vfio=", 7)) {
		vfio_address = arg + 7;
		cases = vfio_cases;
		nr_cases = ARRAY_SIZE(vfio_cases);
	} else if (!strcmp(arg, "--remove")) {
		cases = removing;
		nr_cases = ARRAY_SIZE(removing);
	} else {
		return false;
	}
	return true;
}

static bool fits(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->lba_size == 512 && !ns->ms;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test regions of dma-bufs.",
		.wants = "512-byte",
		.fits = fits,
		.usage = "  --only=TEXT  only cases with TEXT in the name\n"
			 "  --vfio=ADDR  with BAR 2 of a PCI device of vfio-pci\n"
			 "  --remove     remove the controller, and find it again",
		.option = option,
	};
	unsigned int pass, planned = 0;
	struct nt_ns *ns;
	size_t n, i, c;
	char name[80];
	int saved;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	if (!vfio_address && access("/dev/dmabuf_exporter", F_OK))
		nt_skip_all("there is no /dev/dmabuf_exporter");
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < n; i++) {
			for (c = 0; c < nr_cases; c++) {
				snprintf(name, sizeof(name), "%s %s",
					 ns[i].name, cases[c].name);
				if (!strstr(name, only))
					continue;
				if (!pass) {
					planned++;
					continue;
				}
				/* what a case leaves ends with its file */
				saved = ns[i].dev.fd;
				ns[i].dev.fd = open(ns[i].dev.path,
						    O_RDWR | O_CLOEXEC);
				nt_ring_open(&ring, 64, 0);
				nt_test(cases[c].run, &ns[i], "%s", name);
				nt_ring_close(&ring);
				close(ns[i].dev.fd);
				ns[i].dev.fd = saved;
			}
		}
		if (!pass)
			nt_plan(planned);
	}
	return nt_end();
}
