// SPDX-License-Identifier: GPL-2.0
/*
 * Generated sequences of what a program can do with regions, buffers, rings,
 * memory and processes, while the controller is reset, slow, formatted or gone:
 * data is right wherever it can be known, no one does what is not permitted,
 * each command ends once, all ends in time, and the kernel has no complaint.
 *
 * The controller is one of its own, which is plugged into an empty slot of the
 * test bed.  A sequence follows from its seed.  One that fails is run again
 * without ever more of its steps, and what is left is printed, with the options
 * that replay it.  For hours:
 *
 *   qemu/vm run --iommu strict --timeout 9000 --share build/selftests -- \
 *	/mnt/share/nvme/fuzz_life --testbed --seconds=7200
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz_ring.h"
#include "region.h"
#include "watch.h"

#ifndef IORING_URING_CMD_FIXED
#define IORING_URING_CMD_FIXED 1
#endif
#define OP_URING_CMD128	64

#define MONITOR		"/dev/virtio-ports/qmp"
#define SLOT_NAME	"port-X"
/* for blockdev-create, blockdev-add, device_add */
#define CREATE_DRIVE	"{\"job-id\": \"F%u\", \"options\": {\"driver\": \"file\", " \
			"\"filename\": \"/tmp/F%u\", \"size\": %u}}"
#define ADD_DRIVE	"{\"driver\": \"file\", \"node-name\": \"F%u\", " \
			"\"filename\": \"/tmp/F%u\", \"discard\": \"unmap\"}"
#define ADD_SLOT	"{\"driver\": \"nvme\", \"id\": \"" SLOT_ID "\", " \
			"\"bus\": \"" SLOT_NAME "\", \"x-testctl\": true, " \
			"\"x-dma-bound\": true, %s}"
#define SLOT_ID		"X"
#define PATIENCE	60	/* seconds until a sequence hangs */
#define SIZE		(64U << 20)

#define THREADS		3
#define MAX_STEPS	128
#define FILES		5
#define AREAS		6
#define REGIONS		12
#define RINGS		4
#define BUFS		3
#define CMDS		4096
#define PIECES		4
#define ENTRIES		32

/* of a namespace: places for data, and one for data that nobody checks */
#define SECTOR		512
#define SLOTS		24
#define SLOT_LEN	(64 << 10)
#define SLOT_SECTORS	(SLOT_LEN / SECTOR)
#define SLOT_GAP	(256 << 10)
#define TRASH		SLOTS
#define CHILD		(SLOTS + 1)

#define AREA_LEN	(512 << 10)
#define AREA_PAGES	(NT_HUGE / NT_PAGE)

#define ADMIN_FORMAT	0x80
#define FEATURE_INJECT	0xc0

/* Plans */

enum {
	S_CMD, S_IOCTL, S_REAP, S_MAP, S_UNMAP, S_LIMITS, S_OPEN, S_CLOSE,
	S_RING, S_RING_END, S_AREA, S_AREA_END, S_AREA_HURT, S_BUFS, S_BUF,
	S_CLONE, S_UNBUF, S_FORK, S_BAD, S_CANCEL, S_WAIT, S_SIGNAL,
	S_CHURN, S_RESCAN,
	/* what commands may fail by */
	S_RESET, S_INJECT, S_TIMEOUT, S_PATH, S_REBIND, S_SURPRISE, S_FORMAT,
	S_KILL,
	S_KINDS,
	S_CALM = S_RESET,
};

static const struct kind {
	const char *name;
	unsigned int weight;
} kinds[S_KINDS] = {
	[S_CMD] = { "commands", 260 },
	[S_IOCTL] = { "ioctl", 30 },
	[S_REAP] = { "reap", 60 },
	[S_MAP] = { "map", 70 },
	[S_UNMAP] = { "unmap", 40 },
	[S_LIMITS] = { "limits", 10 },
	[S_OPEN] = { "open", 20 },
	[S_CLOSE] = { "close", 15 },
	[S_RING] = { "ring", 40 },
	[S_RING_END] = { "close ring", 15 },
	[S_AREA] = { "memory", 30 },
	[S_AREA_END] = { "munmap", 15 },
	[S_AREA_HURT] = { "change memory", 25 },
	[S_BUFS] = { "register buffers", 25 },
	[S_BUF] = { "update buffer", 20 },
	[S_CLONE] = { "clone buffers", 10 },
	[S_UNBUF] = { "unregister buffers", 8 },
	[S_FORK] = { "fork", 12 },
	[S_BAD] = { "bad command", 25 },
	[S_CANCEL] = { "cancel", 8 },
	[S_WAIT] = { "wait", 15 },
	[S_SIGNAL] = { "signal", 8 },
	[S_CHURN] = { "map and unmap often", 8 },
	[S_RESCAN] = { "rescan", 3 },
	[S_RESET] = { "reset", 10 },
	[S_INJECT] = { "inject", 25 },
	[S_TIMEOUT] = { "short timeout", 6 },
	[S_PATH] = { "remove and rescan", 2 },
	[S_REBIND] = { "unbind and bind", 2 },
	[S_SURPRISE] = { "surprise removal", 1 },
	[S_FORMAT] = { "format", 2 },
	[S_KILL] = { "kill", 5 },
};

#define ARGS	6

struct step {
	__u8 kind;
	__u8 thread;
	__u32 a[ARGS];
};

enum sender { AS_USER, AS_ROOT, AS_32BIT, SENDERS };

/**
 * struct plan - a sequence
 * @seed: it follows from that
 * @calm: nothing happens that a valid command may fail by
 * @format: no data is checked, as what a block is changes
 * @memlock: KiB that an unprivileged program may pin
 * @threads: that take the steps
 * @nr: number of steps
 * @step: the steps
 * @skip: those that are left out
 */
struct plan {
	__u64 seed;
	enum sender sender;
	bool calm, format;
	unsigned int memlock;
	unsigned int threads, nr;
	struct step step[MAX_STEPS];
	bool skip[MAX_STEPS];
};

/* of the controller, as a phase of the program has it */
enum phase { SGL, PRP, PATH, PHASES };

static const char *const phase_names[] = {
	"SGLs", "PRPs", "a path of two",
};

static const char *const sender_names[] = {
	"uid 1000", "root", "32-bit uid 1000",
};

/* What the processes of a sequence share. */
static struct shared {
	atomic_int failed;
	char why[400];
	atomic_uint formats;	/* begun and ended */
	unsigned int at[THREADS];
	atomic_ulong sent, ok, status, refused, strict, checked;
	atomic_uint errors[256];
	double took[S_KINDS + 1];
	atomic_bool may_die, gone;
} *sh;

static const struct plan *plan;

static struct nt_ns target;	/* the namespace */
static char pci[32], port[PATH_MAX];
static enum phase phase;
static unsigned int plugs;
static int udmabuf = -1;
static bool has_compat;
static unsigned int major, minor;	/* of the kernel */
static __u32 lba_size = 512;

static __u64 base_seed;
static unsigned long seconds = 30, sequences;
static char only_steps[MAX_STEPS * 4];
static const char *only_sender, *only_phase;
static bool replay, verbose;
static unsigned long done_sequences, total_sent, total_ok, total_status,
	total_refused, total_strict, total_checked;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static __u32 below(__u64 *state, __u32 n)
{
	return (nt_random(state) >> 32) * n >> 32;
}

static void make_plan(struct plan *p, __u64 seed, enum sender sender)
{
	__u64 s = seed * 0x9e3779b97f4a7c15ULL + 1;
	unsigned int i, j, kind, weight, sum;
	static const __u8 start[] = {
		S_OPEN, S_OPEN, S_RING, S_AREA, S_MAP, S_BUFS,
	};

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->sender = sender;
	p->calm = below(&s, 2);
	p->memlock = below(&s, 8) ? 64 << 10 : 1 << below(&s, 13);
	p->threads = 1 + (below(&s, 2) ? below(&s, THREADS) : 0);
	p->nr = 8 + below(&s, below(&s, 2) ? 32 : MAX_STEPS - 8 + 1);
	for (sum = i = 0; i < S_KINDS; i++)
		if (!p->calm || i < S_CALM)
			sum += kinds[i].weight;
	for (i = 0; i < p->nr; i++) {
		struct step *st = &p->step[i];

		weight = below(&s, sum);
		for (kind = 0; weight >= kinds[kind].weight; kind++)
			weight -= kinds[kind].weight;
		st->kind = i < ARRAY_SIZE(start) ? start[i] : kind;
		st->thread = i < ARRAY_SIZE(start) ? 0 : below(&s, p->threads);
		for (j = 0; j < ARGS; j++)
			st->a[j] = nt_random(&s);
		if (st->kind == S_FORMAT)
			p->format = true;
	}
}

static void show_plan(const struct plan *p)
{
	unsigned int i, n = 0;
	char list[MAX_STEPS * 4 + 1] = "", *at = list;

	nt_note("seed %llu, %s, %s, %u threads, %s, %u KiB to lock:", p->seed,
		sender_names[p->sender], phase_names[phase], p->threads,
		p->calm ? "calm" : "with trouble", p->memlock);
	for (i = 0; i < p->nr; i++) {
		const struct step *s = &p->step[i];

		if (p->skip[i])
			continue;
		nt_note("  %2u thread %u: %-20s %08x %08x %08x %08x %08x %08x",
			i, s->thread, kinds[s->kind].name, s->a[0], s->a[1],
			s->a[2], s->a[3], s->a[4], s->a[5]);
		at += sprintf(at, "%s%u", n++ ? "," : "", i);
	}
	nt_note("replay: fuzz_life --testbed --seed=%llu --as=%c --device=%c --steps=%s",
		p->seed, "ur3"[p->sender], "sp2"[phase], list);
}

/* Failures */

__printf(1, 2)
static void __noreturn broken(const char *fmt, ...)
{
	va_list args;

	if (!atomic_exchange(&sh->failed, 1)) {
		va_start(args, fmt);
		vsnprintf(sh->why, sizeof(sh->why), fmt, args);
		va_end(args);
	}
	_exit(1);
}

/* The program under way */

struct file {
	int fd;
	unsigned int gen;
	bool write;
	unsigned int flying;	/* commands of its regions */
	bool stale;		/* a handle may come to mean something else */
};

struct area {
	unsigned char *at;
	size_t len;
	unsigned int gen;
	int memfd, dmabuf;
	bool grows;		/* can be cut */
	unsigned int writes;	/* in flight, of memory that nobody pinned */
	__u8 used[AREA_PAGES];
};

struct region {
	__u32 handle;		/* or 0 */
	unsigned int gen;
	unsigned int file, file_gen;
	unsigned int area, area_gen;
	__u64 skip, len;
	bool read_only;
};

struct buf {
	bool valid;
	unsigned int gen;
	unsigned int area, area_gen;
	unsigned char *at;
	size_t len;
};

struct ring {
	pthread_mutex_t lock;
	struct fr_ring r;
	unsigned int gen;
	unsigned int nr_bufs;
	struct buf buf[BUFS];
};

struct iovec32 {
	__u32 base, len;
};

enum form {
	PLAIN, VEC, FIXED, FIXED_VEC, REGION, REGION_VEC, FORMS,
};

struct piece {
	unsigned char *mem;
	__u64 offset;
	__u32 len;
};

struct cmd {
	union {
		struct iovec iov[PIECES];
		struct iovec32 iov32[PIECES];
		struct nvme_ng_segment seg[PIECES];
	} vec;
	struct nvme_passthru_cmd64 c;
	bool flying, write;
	bool model;		/* data is known */
	bool strict;		/* the result is known */
	bool never;		/* it must not succeed */
	int want;
	enum form form;
	atomic_uint seen;
	unsigned int ring, step, flags;
	unsigned int formats;
	int slot;
	unsigned int first, nr;
	__u32 version;
	unsigned int area, area_gen, run, pages;
	unsigned char *base;
	int region, buf, file;
	unsigned int region_gen, buf_gen, ring_gen, file_gen;
	struct piece piece[PIECES];
	unsigned int pieces;
	unsigned char *meta;
	__u32 meta_len;
};

#define ANY	0xffffffffU

struct slot {
	int busy;		/* -1: it writes */
	unsigned int formats;
	__u32 version[SLOT_SECTORS];
};

static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static struct area areas[AREAS];
static struct region regions[REGIONS];
static struct ring rings[RINGS];
static struct slot slots[SLOTS];
static struct cmd *cmds;	/* below 4 GiB */
static unsigned int nr_cmds;
static __u32 versions;
static struct nvme_ng_limits lim;
static bool compat;
static int admin_pipe;
static char node[64];
static unsigned char *arena, *arena_end;
static int next_fd = 200;
static pid_t children[16];
static unsigned int nr_children;
static pthread_t threads[THREADS];
static pthread_barrier_t all_there;

/* memory for arguments of system calls, of each thread, below 4 GiB */
static __thread struct low {
	struct nvme_ng_map map;
	struct nvme_ng_limits lim;
	__u32 handle;
	struct iovec iov[BUFS];
	struct iovec32 iov32[BUFS];
	__u64 tags[BUFS];
	struct io_uring_rsrc_update2 update;
	struct io_uring_clone_buffers clone;
	struct udmabuf_create create;
} *low;
static __thread unsigned char buffer[SLOT_LEN + 2 * NT_PAGE];
static __thread unsigned char read_copy[SLOT_LEN + (2 * PIECES + 2) * NT_PAGE];
static __thread unsigned char poison_bytes[SLOT_LEN + (2 * PIECES + 2) * NT_PAGE];
static __thread __u64 meta_copy[SLOT_SECTORS];

static void *low_memory(size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_ANONYMOUS | MAP_32BIT | flags, -1, 0);

	if (p == MAP_FAILED)
		nt_die("no memory below 4 GiB: %m");
	return p;
}

/* Memory that another thread may take away just now. */
static bool copy_in(void *to, const void *from, size_t len)
{
	struct iovec l = { (void *)from, len }, r = { to, len };

	return process_vm_writev(getpid(), &l, 1, &r, 1, 0) == (ssize_t)len;
}

static bool copy_out(void *to, const void *from, size_t len)
{
	struct iovec l = { to, len }, r = { (void *)from, len };

	return process_vm_readv(getpid(), &l, 1, &r, 1, 0) == (ssize_t)len;
}

/* Each sector says where it belongs, and its version. */
static __u64 mix(__u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static void fill_sector(void *to, __u32 where, __u32 version)
{
	__u64 *w = to, first = (__u64)version << 32 | where;
	__u64 h = mix(first + 1);
	unsigned int i;

	w[0] = first;
	for (i = 1; i < SECTOR / 8; i++)
		w[i] = h + i;
}

/* The version of a sector, 0 if it was never written; false if it is broken. */
static bool know_sector(const void *from, __u32 where, __u32 *version)
{
	const __u64 *w = from;
	unsigned int i;
	__u64 h;

	if (!w[0]) {
		for (i = 1; i < SECTOR / 8; i++)
			if (w[i])
				return false;
		*version = 0;
		return true;
	}
	if ((__u32)w[0] != where)
		return false;
	h = mix(w[0] + 1);
	for (i = 1; i < SECTOR / 8; i++)
		if (w[i] != h + i)
			return false;
	*version = w[0] >> 32;
	return true;
}

static __u32 where_is(int slot, unsigned int sector)
{
	return slot * (SLOT_GAP / SECTOR) + sector;
}

static __u64 meta_of(__u32 where, __u32 version)
{
	return mix((__u64)version << 32 | where) | 1;
}

/* Areas; the world is locked */

static bool take_run(struct area *a, unsigned int from, unsigned int n,
		     unsigned int to, unsigned int *run)
{
	unsigned int i, free = 0;

	for (i = from; i < to; i++) {
		free = a->used[i] ? 0 : free + 1;
		if (free == n) {
			*run = i + 1 - n;
			memset(a->used + *run, 1, n);
			return true;
		}
	}
	return false;
}

static void do_area(const struct step *s)
{
	static const enum nt_kind of[] = {
		NT_SMALL, NT_SMALL, NT_THP, NT_SHARED, NT_MEMFD, NT_MEMFD,
		NT_DMABUF, NT_DMABUF,
	};
	enum nt_kind kind = of[s->a[1] % ARRAY_SIZE(of)];
	struct area *a = &areas[s->a[0] % AREAS], new = { 0 };
	unsigned char *at;
	unsigned int i;

	pthread_mutex_lock(&world);
	at = arena;
	arena += 2 * NT_HUGE;
	pthread_mutex_unlock(&world);
	if (at >= arena_end || (a->at && s->a[2] & 1))
		return;
	new.memfd = -1;
	new.dmabuf = -1;
	new.at = at;
	new.len = kind == NT_THP ? NT_HUGE : AREA_LEN;
	if (kind >= NT_MEMFD) {
		new.memfd = memfd_create("fuzz", MFD_CLOEXEC |
					 MFD_ALLOW_SEALING);
		if (new.memfd < 0 || ftruncate(new.memfd, new.len))
			broken("memfd: %m");
		new.grows = kind == NT_MEMFD;
	}
	if (kind == NT_DMABUF && udmabuf >= 0) {
		fcntl(new.memfd, F_ADD_SEALS, F_SEAL_SHRINK);
		low->create = (struct udmabuf_create) {
			.memfd = new.memfd,
			.flags = UDMABUF_FLAGS_CLOEXEC,
			.size = new.len,
		};
		new.dmabuf = fr_ioctl(compat, udmabuf, UDMABUF_CREATE,
				      &low->create);
	}
	if (mmap(at, new.len, PROT_READ | PROT_WRITE, MAP_FIXED |
		 (new.memfd >= 0 ? MAP_SHARED :
		  MAP_ANONYMOUS | (kind == NT_SHARED ? MAP_SHARED :
				   MAP_PRIVATE)), new.memfd, 0) == MAP_FAILED)
		broken("mmap: %m");
	if (kind == NT_THP)
		madvise(at, new.len, MADV_HUGEPAGE);
	if (kind == NT_SMALL)
		madvise(at, new.len, MADV_NOHUGEPAGE);
	for (i = 0; i < new.len / NT_PAGE; i++)
		at[(i * 37 % (new.len / NT_PAGE)) * NT_PAGE] = 1;

	pthread_mutex_lock(&world);
	new.gen = a->gen + 1;
	at = a->at;
	if (at && !a->writes) {
		munmap(at, a->len);
		if (a->memfd >= 0)
			close(a->memfd);
		if (a->dmabuf >= 0)
			close(a->dmabuf);
		a->at = NULL;
	}
	if (!a->at) {
		*a = new;
		new.at = NULL;
	}
	pthread_mutex_unlock(&world);
	if (new.at) {
		munmap(new.at, new.len);
		if (new.memfd >= 0)
			close(new.memfd);
		if (new.dmabuf >= 0)
			close(new.dmabuf);
	}
}

static void do_area_end(const struct step *s)
{
	struct area *a = &areas[s->a[0] % AREAS];

	pthread_mutex_lock(&world);
	if (a->at && !a->writes) {
		a->gen++;
		munmap(a->at, a->len);
		if (a->memfd >= 0)
			close(a->memfd);
		if (a->dmabuf >= 0)
			close(a->dmabuf);
		a->at = NULL;
	}
	pthread_mutex_unlock(&world);
}

static void do_area_hurt(const struct step *s)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_FREE, MADV_PAGEOUT, MADV_COLD, MADV_REMOVE,
		MADV_DONTFORK, MADV_MERGEABLE, 25 /* MADV_COLLAPSE */,
	};
	struct area *a = &areas[s->a[0] % AREAS];
	size_t at, len;

	pthread_mutex_lock(&world);
	if (!a->at || a->writes) {
		pthread_mutex_unlock(&world);
		return;
	}
	a->gen++;
	at = s->a[1] % (a->len / NT_PAGE) * NT_PAGE;
	len = s->a[2] & 1 ? a->len - at : NT_PAGE;
	switch (s->a[3] % 8) {
	case 0:
		mprotect(a->at + at, len, PROT_READ);
		break;
	case 1:
		mprotect(a->at + at, len, PROT_NONE);
		break;
	case 2:
		mprotect(a->at, a->len, PROT_READ | PROT_WRITE);
		break;
	case 3:
		if (a->grows)
			(void)!ftruncate(a->memfd, at);
		break;
	case 4:
		if (a->grows)
			(void)!ftruncate(a->memfd, a->len);
		break;
	default:
		madvise(a->at + at, len,
			advice[s->a[4] % ARRAY_SIZE(advice)]);
	}
	pthread_mutex_unlock(&world);
}

/* Files and regions */

static void do_open(const struct step *s)
{
	struct file *f = &files[s->a[0] % FILES];
	bool write = s->a[1] % 4;
	int fd, high;

	fd = open(node, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return;
	pthread_mutex_lock(&world);
	/* a number means one file for ever */
	high = fcntl(fd, F_DUPFD_CLOEXEC, next_fd);
	if (high >= 0)
		next_fd = high + 1;
	close(fd);
	fd = -1;
	if (high >= 0 && f->fd < 0) {
		f->gen++;
		f->fd = high;
		f->write = write;
		f->flying = 0;
		f->stale = false;
		high = -1;
	}
	pthread_mutex_unlock(&world);
	if (high >= 0)
		close(high);
}

static void do_close(const struct step *s)
{
	struct file *f = &files[s->a[0] % FILES];
	unsigned int i;
	int fd;

	pthread_mutex_lock(&world);
	fd = f->fd;
	f->fd = -1;
	f->gen++;
	for (i = 0; i < REGIONS; i++) {
		if (regions[i].handle && &files[regions[i].file] == f) {
			regions[i].handle = 0;
			regions[i].gen++;
		}
	}
	pthread_mutex_unlock(&world);
	if (fd >= 0)
		close(fd);
}

static void do_map(const struct step *s)
{
	unsigned int file = s->a[0] % FILES, area = s->a[1] % AREAS, i;
	struct region *r = &regions[s->a[2] % REGIONS], new = { 0 };
	struct nvme_ng_map *m = &low->map;
	struct area *a = &areas[area];
	int fd, ret;

	pthread_mutex_lock(&world);
	for (i = 0; i < FILES && files[file].fd < 0; i++)
		file = (file + 1) % FILES;
	for (i = 0; i < AREAS && !a->at; i++) {
		area = (area + 1) % AREAS;
		a = &areas[area];
	}
	fd = files[file].fd;
	if (fd < 0 || !a->at || r->handle || files[file].stale) {
		pthread_mutex_unlock(&world);
		return;
	}
	new.file = file;
	new.file_gen = files[file].gen;
	new.area = area;
	new.area_gen = a->gen;
	if (s->a[3] & 1)
		new.skip = (s->a[4] % (a->len / 8)) & (s->a[3] & 2 ? -NT_PAGE :
						       -4);
	new.len = a->len - new.skip;
	if (s->a[3] & 4)
		new.len -= (s->a[5] % (new.len / 2)) & -4;
	new.read_only = !(s->a[3] >> 4 & 7);
	memset(m, 0, sizeof(*m));
	m->size = sizeof(*m);
	m->flags = new.read_only ? NVME_NG_MAP_READ_ONLY : 0;
	m->addr = (uintptr_t)a->at + new.skip;
	m->len = new.len;
	m->dmabuf_fd = -1;
	if (a->dmabuf >= 0 && s->a[3] & 0x300) {
		m->flags |= NVME_NG_MAP_DMABUF;
		m->addr = new.skip;
		m->dmabuf_fd = a->dmabuf;
	}
	if (!(s->a[3] >> 12 & 31)) {
		/* what cannot be */
		m->flags = s->a[5];
		m->len = s->a[4];
	}
	pthread_mutex_unlock(&world);

	ret = fr_ioctl(compat, fd, NVME_NG_IOCTL_MAP, m);
	if (ret) {
		if (ret > 0)
			broken("map: %d", ret);
		return;
	}
	if (!m->region)
		broken("map: handle 0");
	pthread_mutex_lock(&world);
	/* the number of a file that was closed since */
	if (files[file].gen == new.file_gen && !r->handle &&
	    !(m->flags & ~3) && m->len == new.len) {
		new.handle = m->region;
		new.gen = r->gen + 1;
		*r = new;
		m->region = 0;
	}
	pthread_mutex_unlock(&world);
	low->handle = m->region;
	if (low->handle)
		fr_ioctl(compat, fd, NVME_NG_IOCTL_UNMAP, &low->handle);
}

static void do_unmap(const struct step *s)
{
	struct region *r = &regions[s->a[0] % REGIONS];
	int fd = -1, ret;

	pthread_mutex_lock(&world);
	if (r->handle) {
		struct file *f = &files[r->file];

		low->handle = r->handle;
		fd = f->fd;
		/* commands that are on their way may find the next one */
		f->stale = f->flying;
		r->handle = 0;
		r->gen++;
	}
	pthread_mutex_unlock(&world);
	if (fd < 0)
		return;
	ret = fr_ioctl(compat, fd, NVME_NG_IOCTL_UNMAP, &low->handle);
	if (ret && ret != -EBADF && ret != -ENOENT)
		broken("unmap: %d", ret);
}

static int any_file(__u32 a)
{
	unsigned int i, n;

	for (i = 0; i < FILES; i++) {
		n = (a + i) % FILES;
		if (files[n].fd >= 0)
			return n;
	}
	return -1;
}

static void do_limits(const struct step *s)
{
	int file, ret, fd;

	pthread_mutex_lock(&world);
	file = any_file(s->a[0]);
	fd = file < 0 ? -1 : files[file].fd;
	pthread_mutex_unlock(&world);
	low->lim.size = s->a[1] & 1 ? sizeof(low->lim) : s->a[1] >> 1 & 127;
	low->lim.flags = !(s->a[2] & 31);
	ret = fr_ioctl(compat, fd, NVME_NG_IOCTL_LIMITS, &low->lim);
	if (ret > 0)
		broken("limits: %d", ret);
}

/* Often, and in the way of who maps as well. */
static void do_churn(const struct step *s)
{
	struct nvme_ng_map *m = &low->map;
	unsigned int i;
	struct area *a;
	int file, fd;

	for (i = 0; i < 8 + s->a[1] % 32; i++) {
		pthread_mutex_lock(&world);
		file = any_file(s->a[0]);
		a = &areas[s->a[2] % AREAS];
		fd = file < 0 || files[file].flying ? -1 : files[file].fd;
		memset(m, 0, sizeof(*m));
		m->size = sizeof(*m);
		m->addr = (uintptr_t)a->at;
		m->len = 1 + s->a[3] % AREA_LEN;
		m->dmabuf_fd = -1;
		pthread_mutex_unlock(&world);
		if (fd < 0 || fr_ioctl(compat, fd, NVME_NG_IOCTL_MAP, m))
			return;
		low->handle = m->region;
		fr_ioctl(compat, fd, NVME_NG_IOCTL_UNMAP, &low->handle);
	}
}

/* Rings */

static void do_ring(const struct step *s)
{
#define BIG	(IORING_SETUP_SQE128 | IORING_SETUP_CQE32)
#define MIXED	(FR_SQE_MIXED | FR_CQE_MIXED)
#define DEFER	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
	static const unsigned int setups[] = {
		BIG,
		BIG | DEFER,
		BIG | IORING_SETUP_SQPOLL,
		BIG | IORING_SETUP_IOPOLL,
		BIG | IORING_SETUP_IOPOLL | DEFER,
		BIG | IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL,
		BIG | IORING_SETUP_COOP_TASKRUN,
		BIG | IORING_SETUP_IOPOLL,
		MIXED,
		MIXED | IORING_SETUP_IOPOLL,
		MIXED | DEFER,
		MIXED | IORING_SETUP_SQPOLL,
		IORING_SETUP_SQE128 | FR_CQE_MIXED,
		FR_SQE_MIXED | IORING_SETUP_CQE32 | IORING_SETUP_IOPOLL,
		BIG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SQE128,
	};
	struct ring *r = &rings[s->a[0] % RINGS];
	/* the last is for what is refused */
	unsigned int setup = setups[s->a[1] % (ARRAY_SIZE(setups) -
					       !!(s->a[2] & 7))];
	int ret;

	if (pthread_mutex_trylock(&r->lock))
		return;
	if (r->r.fd < 0) {
		ret = fr_open(&r->r, ENTRIES, setup, compat);
		/* an older kernel */
		if (ret == -EINVAL && setup & MIXED)
			ret = fr_open(&r->r, ENTRIES, BIG |
				      (setup & IORING_SETUP_IOPOLL), compat);
		if (ret && ret != -ENOMEM)
			broken("a ring with %#x: %d", setup, ret);
		r->gen++;
		r->nr_bufs = 0;
		memset(r->buf, 0, sizeof(r->buf));
	}
	pthread_mutex_unlock(&r->lock);
}

static void do_ring_end(const struct step *s)
{
	struct ring *r = &rings[s->a[0] % RINGS];

	if (pthread_mutex_trylock(&r->lock))
		return;
	r->gen++;
	fr_close(&r->r);
	pthread_mutex_unlock(&r->lock);
}

/* Commands */

static void release(struct cmd *c)
{
	struct slot *slot = c->slot < SLOTS ? &slots[c->slot] : NULL;

	/* no other memory is ever at the same address */
	if (c->base == areas[c->area].at)
		memset(areas[c->area].used + c->run, 0, c->pages);
	if (slot && c->model)
		slot->busy = c->write ? 0 : slot->busy - 1;
	if (c->write && c->form < FIXED && c->model)
		areas[c->area].writes--;
	if (c->form >= REGION && c->file >= 0 &&
	    files[c->file].gen == c->file_gen && !--files[c->file].flying)
		files[c->file].stale = false;
	c->flying = false;
}

static bool objects_same(const struct cmd *c)
{
	return areas[c->area].gen == c->area_gen &&
		files[c->file].gen == c->file_gen &&
		(c->region < 0 || regions[c->region].gen == c->region_gen) &&
		(c->buf < 0 || (rings[c->ring].gen == c->ring_gen &&
				rings[c->ring].buf[c->buf].gen == c->buf_gen));
}

/* What a read has left beside of its pieces. */
static void check_guards(const struct cmd *c)
{
	unsigned char *at = areas[c->area].at + c->run * NT_PAGE;
	unsigned int i, j, n = c->pages * NT_PAGE;

	if (n > sizeof(read_copy) || !copy_out(read_copy, at, n))
		return;
	for (i = 0; i < c->pieces; i++)
		memset(read_copy + (c->piece[i].mem - at), NT_POISON,
		       c->piece[i].len);
	if (c->meta)
		memset(read_copy + (c->meta - at), NT_POISON, c->meta_len);
	for (j = 0; j < n; j++)
		if (read_copy[j] != NT_POISON)
			broken("form %d, ring %#x: byte %u of %u, read %u at %zu, %u pieces: %02x",
			       c->form, rings[c->ring].r.setup, j, n,
			       c->nr * SECTOR, c->piece[0].mem - at, c->pieces,
			       read_copy[j]);
}

static void check_data(struct cmd *c)
{
	struct slot *slot = &slots[c->slot];
	unsigned int i, n = 0, sector;

	for (i = 0; i < c->pieces; i++) {
		if (!copy_out(buffer + n, c->piece[i].mem, c->piece[i].len))
			return;
		n += c->piece[i].len;
	}
	if (c->meta && !copy_out(meta_copy, c->meta, c->meta_len))
		return;
	atomic_fetch_add(&sh->checked, 1);
	for (i = 0; i < c->nr; i++) {
		__u32 got, want, where;

		sector = c->first + i;
		where = where_is(c->slot, sector);
		if (!know_sector(buffer + i * SECTOR, where, &got))
			broken("form %d, ring %#x: sector %u of %u, slot %d at %u: foreign: %llx",
			       c->form, rings[c->ring].r.setup, i, c->nr,
			       c->slot, sector,
			       *(unsigned long long *)(buffer + i * SECTOR));
		want = slot->version[sector];
		if (want != ANY && got != want)
			broken("form %d, ring %#x: sector %u of %u, slot %d at %u: is %u, not %u",
			       c->form, rings[c->ring].r.setup, i, c->nr,
			       c->slot, sector, got, want);
	}
}

static void settle_slot(struct cmd *c, int res)
{
	struct slot *slot = &slots[c->slot];
	unsigned int i;

	for (i = c->first; i < c->first + c->nr; i++)
		slot->version[i] = res || c->formats != sh->formats ? ANY :
				   c->version;
}

/* An end of a command, whatever it was. */
static void judge(struct cmd *c, int res)
{
	if (!res)
		atomic_fetch_add(&sh->ok, 1);
	else if (res > 0)
		atomic_fetch_add(&sh->status, 1);
	else
		atomic_fetch_add(&sh->refused, 1);
	if (res < 0 && res > -256)
		atomic_fetch_add(&sh->errors[-res], 1);
	switch (res) {
	case 0 ... 0x7fff:
	case -EACCES:
	case -EINVAL:
	case -EFAULT:
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
	case -EINTR:
	case -EIO:
	case -EAGAIN:
	case -EBADF:
	case -ECANCELED:
	case -EOPNOTSUPP:
	case -ENOTTY:
	case -ENOMEM:
		break;
	default:
		broken("form %d: a command completed with %d", c->form, res);
	}
	if (c->never && res >= 0)
		broken("form %d, ring %#x, opcode %02x: %d where it must be refused",
		       c->form, rings[c->ring].r.setup, c->c.opcode, res);
	if (c->strict && objects_same(c)) {
		atomic_fetch_add(&sh->strict, 1);
		if (res != c->want)
			broken("form %d, ring %#x, %s of %u in %u pieces, metadata %u: %d, not %d",
			       c->form, rings[c->ring].r.setup,
			       c->write ? "write" : "read", c->nr * SECTOR,
			       c->pieces, c->meta_len, res, c->want);
	}
	if (c->model && objects_same(c) && c->formats == sh->formats &&
	    !c->write) {
		check_guards(c);
		if (!res)
			check_data(c);
	}
	if (c->model && c->write)
		settle_slot(c, res);
	release(c);
}

/* Spread the data of a command over an area. */
static bool place(struct cmd *c, struct area *a, size_t from, size_t to,
		  __u32 len, __u32 dice, __u32 meta_len)
{
	unsigned int pages, i, want = 1, first, at;
	__u32 left = len, align = lim.dma_alignment ?: 4;

	if (c->form & 1)
		want = 1 + dice % PIECES;
	at = dice >> 8 & 3 ? 0 : (dice >> 10 & 4095) & -align;
	/* one page before, one behind, one between any two; one for metadata */
	pages = (len + at + NT_PAGE - 1) / NT_PAGE + 2 + want + 1;
	from = (from + NT_PAGE - 1) / NT_PAGE;
	to /= NT_PAGE;
	if (to <= from || !take_run(a, from, pages, to, &first))
		return false;
	c->run = first;
	c->pages = pages;
	at += (first + 1) * NT_PAGE;
	for (i = 0; i < want && left; i++) {
		__u32 n = left, room = NT_PAGE - at % NT_PAGE;

		/* PRPs: all but the last end with a page */
		if (i + 1 < want && left > room) {
			n = left / (want - i);
			n = n <= room ? room :
			    room + (n - room) / NT_PAGE * NT_PAGE;
			if (n > left)
				n = left;
		}
		c->piece[i].mem = a->at + at;
		c->piece[i].len = n;
		left -= n;
		at += n;
		if (left && dice >> (24 + i) & 1)
			at += NT_PAGE;
	}
	c->pieces = i;
	c->meta = NULL;
	c->meta_len = meta_len;
	if (meta_len)
		c->meta = a->at + (first + pages - 1) * NT_PAGE +
			(dice >> 16 & 7) * 8;
	return true;
}

/* Where the pieces are, as the form says it. */
static void express(struct cmd *c)
{
	const struct region *r = c->region < 0 ? NULL : &regions[c->region];
	struct area *a = &areas[c->area];
	struct nvme_passthru_cmd64 *n = &c->c;
	unsigned int i;
	__u32 len = 0;

	for (i = 0; i < c->pieces; i++) {
		c->piece[i].offset = r ? c->piece[i].mem - a->at - r->skip : 0;
		len += c->piece[i].len;
	}
	n->addr = (uintptr_t)c->piece[0].mem;
	n->data_len = len;
	if (c->form & 1) {
		n->addr = (uintptr_t)&c->vec;
		n->data_len = c->pieces;
	} else if (r) {
		n->addr = c->piece[0].offset;
	}
	for (i = 0; c->form & 1 && i < c->pieces; i++) {
		struct piece *p = &c->piece[i];

		if (r)
			c->vec.seg[i] = (struct nvme_ng_segment) {
				r->handle, p->len, p->offset };
		else if (compat)
			c->vec.iov32[i] = (struct iovec32) {
				(uintptr_t)p->mem, p->len };
		else
			c->vec.iov[i] = (struct iovec) { p->mem, p->len };
	}
	if (c->meta_len) {
		n->metadata = r ? c->meta - a->at - r->skip :
			(uintptr_t)c->meta;
		n->metadata_len = c->meta_len;
	}
	if (target.testbed) {
		n->cdw3 = len;
		n->cdw2 = c->meta_len;
	}
}

/* Fill what is written, or spoil what is read and all around it. */
static bool fill(struct cmd *c)
{
	struct area *a = &areas[c->area];
	unsigned int i, at = 0;

	if (!c->write) {
		if (!poison_bytes[0])
			memset(poison_bytes, NT_POISON, sizeof(poison_bytes));
		return c->pages * NT_PAGE <= sizeof(poison_bytes) &&
			copy_in(a->at + c->run * NT_PAGE, poison_bytes,
				c->pages * NT_PAGE);
	}
	for (i = 0; i < c->nr; i++) {
		__u32 where = where_is(c->slot, c->first + i);

		fill_sector(buffer + i * SECTOR, where, c->version);
		meta_copy[i] = meta_of(where, c->version);
	}
	for (i = 0; i < c->pieces; i++) {
		if (!copy_in(c->piece[i].mem, buffer + at, c->piece[i].len))
			return false;
		at += c->piece[i].len;
	}
	return !c->meta_len || copy_in(c->meta, meta_copy, c->meta_len);
}

/*
 * The next command, as the step says, for the ring or by ioctl; NULL if there
 * is none to be had.  The world is locked.
 */
static struct cmd *new_command(const struct step *s, unsigned int n, int ring)
{
	__u64 x = (__u64)s->a[0] << 32 ^ s->a[1] ^ (n + 1) * 0x9e3779b97f4a7c15;
	struct ring *r = ring < 0 ? NULL : &rings[ring];
	__u32 d1 = nt_random(&x), d2 = nt_random(&x), d3 = nt_random(&x);
	__u32 unit = lba_size, blocks, most, meta_len = 0, i;
	unsigned int form = d1 % (r ? FORMS : 2);
	size_t from = 0, to;
	struct file *f;
	struct area *a;
	struct cmd *c;
	__u64 lba;

	if (nr_cmds == CMDS)
		return NULL;
	c = &cmds[nr_cmds];
	memset(c, 0, sizeof(*c));
	c->region = -1;
	c->buf = -1;
	c->ring = ring < 0 ? 0 : ring;
	c->step = s - plan->step;
	c->form = form;
	c->write = d1 >> 4 & 1;
	c->area = d1 >> 5 & 7;
	c->formats = sh->formats;
	c->file = any_file(d1 >> 8);
	if (c->file < 0)
		return NULL;
	if (form >= REGION) {
		for (i = 0; i < REGIONS; i++) {
			c->region = ((d1 >> 11) + i) % REGIONS;
			if (regions[c->region].handle)
				break;
		}
		if (i == REGIONS)
			return NULL;
		c->area = regions[c->region].area;
		c->file = regions[c->region].file;
		c->region_gen = regions[c->region].gen;
	} else if (form >= FIXED) {
		c->buf = (d1 >> 11) % BUFS;
		if (!r->buf[c->buf].valid)
			return NULL;
		c->area = r->buf[c->buf].area;
		c->buf_gen = r->buf[c->buf].gen;
		c->ring_gen = r->gen;
	}
	c->area %= AREAS;
	a = &areas[c->area];
	c->area_gen = a->gen;
	f = &files[c->file];
	c->file_gen = f->gen;
	if (!a->at)
		return NULL;
	to = a->len;
	c->model = !plan->format;
	c->want = 0;
	if (c->region >= 0) {
		const struct region *g = &regions[c->region];

		if (g->area_gen != a->gen) {
			/* memory that the program does not see any more */
			c->model = false;
			c->write = false;
		}
		from = g->skip;
		to = g->skip + g->len;
		if (g->read_only && !c->write) {
			c->never = true;
			c->want = -EFAULT;
		}
	}
	if (c->buf >= 0) {
		const struct buf *b = &r->buf[c->buf];

		if (b->area_gen != a->gen) {
			c->model = false;
			c->write = false;
		}
		from = b->at - a->at;
		to = from + b->len;
		if (b->area_gen != a->gen && from > a->len)
			return NULL;
	}
	c->strict = plan->calm && c->model;
	if (c->write && !f->write && plan->sender != AS_ROOT) {
		c->never = true;
		c->want = -EACCES;
	}

	c->slot = d2 % SLOTS;
	most = SLOT_LEN / unit;
	blocks = 1 + (d2 >> 5) % (d2 >> 20 & 7 ? 4096 / unit + 2 : most);
	if (blocks > most)
		blocks = most;
	c->first = (d2 >> 8) % (most - blocks + 1) * (unit / SECTOR);
	c->nr = blocks * (unit / SECTOR);
	if (!c->model)
		c->slot = TRASH;
	else if (slots[c->slot].busy < 0 || (c->write && slots[c->slot].busy))
		return NULL;
	if (lim.metadata_size && d3 & 7)
		meta_len = blocks * lim.metadata_size;
	/* sometimes more than the data, or the wrong way round */
	if (!place(c, a, from, to, c->nr * SECTOR, d3, meta_len)) {
		c->pages = 0;
		return NULL;
	}
	if (c->write)
		c->version = ++versions;
	c->base = a->at;
	if (c->model && !fill(c)) {
		memset(a->used + c->run, 0, c->pages);
		return NULL;
	}
	lba = (__u64)c->slot * (SLOT_GAP / SECTOR) + c->first;
	lba /= unit / SECTOR;
	c->c.opcode = c->write ? NVME_CMD_WRITE : NVME_CMD_READ;
	c->c.nsid = target.nsid;
	c->c.cdw10 = lba;
	c->c.cdw12 = blocks - 1;
	express(c);
	if (!(d3 >> 28) && plan->sender == AS_ROOT && !plan->calm)
		c->c.timeout_ms = 20 + d3 % 1000;
	else if (!(d3 >> 28))
		c->c.timeout_ms = d3;
	if (c->model) {
		struct slot *slot = &slots[c->slot];

		if (slot->formats != sh->formats) {
			memset(slot->version, 0xff, sizeof(slot->version));
			slot->formats = sh->formats;
		}
		slot->busy = c->write ? -1 : slot->busy + 1;
		if (c->write && form < FIXED)
			a->writes++;
	}
	if (form >= REGION)
		f->flying++;
	c->flying = true;
	nr_cmds++;
	atomic_fetch_add(&sh->sent, 1);
	return c;
}

static __u32 op_of(enum form form)
{
	static const __u32 ops[] = {
		[PLAIN] = NVME_URING_CMD_IO,
		[VEC] = NVME_URING_CMD_IO_VEC,
		[FIXED] = NVME_URING_CMD_IO,
		[FIXED_VEC] = NVME_URING_CMD_IO_VEC,
		[REGION] = NVME_NG_URING_CMD_IO,
		[REGION_VEC] = NVME_NG_URING_CMD_IO_VEC,
	};

	return ops[form];
}

static bool is_big(const struct fr_ring *r)
{
	return r->setup & (IORING_SETUP_SQE128 | FR_SQE_MIXED) &&
		r->setup & (IORING_SETUP_CQE32 | FR_CQE_MIXED);
}

static struct io_uring_sqe *new_entry(struct ring *r)
{
	struct io_uring_sqe *sqe = fr_put(&r->r, true);

	if (sqe) {
		sqe->opcode = r->r.setup & FR_SQE_MIXED ? OP_URING_CMD128 :
			      IORING_OP_URING_CMD;
		r->r.flying++;
	}
	return sqe;
}

static void send_command(struct ring *r, struct io_uring_sqe *sqe,
			 struct cmd *c)
{
	struct nvme_ng_uring_cmd *n = (void *)sqe->cmd;

	sqe->fd = files[c->file].fd;
	sqe->cmd_op = op_of(c->form);
	sqe->user_data = c - cmds;
	if (c->form == FIXED || c->form == FIXED_VEC) {
		sqe->rw_flags = IORING_URING_CMD_FIXED;
		sqe->buf_index = c->buf;
	}
	memcpy(n, &c->c, sizeof(struct nvme_uring_cmd));
	if (c->region >= 0) {
		n->region = c->form == REGION ? regions[c->region].handle : 0;
		n->meta_region = c->meta_len ? regions[c->region].handle : 0;
	}
	if (!is_big(&r->r)) {
		c->never = true;
		c->want = -EOPNOTSUPP;
	}
}

/* Take what has completed; the ring is locked. */
static unsigned int absorb(struct ring *r)
{
	unsigned int n = 0;
	struct cmd *c;
	__u64 name;
	int res;

	while (fr_reap(&r->r, &name, &res)) {
		n++;
		if (!r->r.flying--)
			broken("ring %#x: more completions than commands",
			       r->r.setup);
		/* what has nothing to be checked */
		if (name == ~1ULL)
			continue;
		if (name >= CMDS)
			broken("completion of %llx, which nobody sent",
			       (unsigned long long)name);
		c = &cmds[name];
		if (atomic_fetch_add(&c->seen, 1))
			broken("form %d, ring %#x: a command completed twice, now with %d",
			       c->form, r->r.setup, res);
		pthread_mutex_lock(&world);
		judge(c, res);
		pthread_mutex_unlock(&world);
	}
	return n;
}

static struct ring *lock_ring(__u32 a, bool stranger)
{
	pid_t me = syscall(SYS_gettid);
	unsigned int i;

	for (i = 0; i < RINGS; i++) {
		struct ring *r = &rings[(a + i) % RINGS];

		if (pthread_mutex_trylock(&r->lock))
			continue;
		if (r->r.fd >= 0 && (stranger || r->r.owner == me ||
				     !(r->r.setup & IORING_SETUP_SINGLE_ISSUER)))
			return r;
		pthread_mutex_unlock(&r->lock);
	}
	return NULL;
}

static void do_commands(const struct step *s)
{
	struct ring *r = lock_ring(s->a[2], false);
	unsigned int i, n = 1 + s->a[3] % 24, ring, flags = 0;
	struct io_uring_sqe *sqe, *last = NULL;
	struct cmd *c;

	if (!r)
		return;
	ring = r - rings;
	switch (s->a[4] % 16) {
	case 0 ... 1:
		/*
		 * From 6.10 on, and before 6.15, io_uring reads the command of
		 * a linked entry when its turn comes: by then another command
		 * may be there, which is sent in its place.
		 */
		if (major >= 7 || minor < 10)
			flags = s->a[4] & 1 ? IOSQE_IO_HARDLINK : IOSQE_IO_LINK;
		break;
	case 2:
		/*
		 * Before 7 a drain counts completions: for ever, if an entry
		 * behind it that is invalid has completed at once.
		 */
		if (major >= 7)
			flags = IOSQE_IO_DRAIN;
		break;
	case 3:
		flags = IOSQE_ASYNC;
		break;
	}
	for (i = 0; i < n && r->r.flying < ENTRIES - 2; i++) {
		pthread_mutex_lock(&world);
		c = new_command(s, i, ring);
		sqe = c ? new_entry(r) : NULL;
		if (c && !sqe) {
			nr_cmds--;
			release(c);
			c = NULL;
		}
		if (c)
			send_command(r, sqe, c);
		if (c && flags) {
			sqe->flags = flags;
			c->flags = flags;
			last = sqe;
			/* one that fails ends what follows */
			c->strict &= flags != IOSQE_IO_LINK &&
				     flags != IOSQE_IO_HARDLINK;
		}
		/* what fails at once stops those behind it, for a while */
		pthread_mutex_unlock(&world);
	}
	/* a thread that submits would add what comes later to the chain */
	if (last && flags != IOSQE_ASYNC)
		last->flags = 0;
	if (fr_submit(&r->r) == -EINVAL)
		broken("ring %#x: entries are invalid", r->r.setup);
	if (s->a[5] & 1) {
		if (s->a[5] & 2)
			fr_look(&r->r);
		absorb(r);
	}
	pthread_mutex_unlock(&r->lock);
}

/* Commands that are not: handles, lengths, opcodes, flags of chance. */
static void do_bad(const struct step *s)
{
	struct ring *r = lock_ring(s->a[2], s->a[3] & 0x1000);
	struct nvme_ng_uring_cmd *n;
	struct io_uring_sqe *sqe;
	struct cmd *c;
	__u32 i;

	if (!r)
		return;
	pthread_mutex_lock(&world);
	/* without a model, and it never writes where data is known */
	c = r->r.flying < ENTRIES - 2 ? new_command(s, 0, r - rings) : NULL;
	sqe = c ? new_entry(r) : NULL;
	if (!sqe) {
		if (c) {
			nr_cmds--;
			release(c);
		}
		pthread_mutex_unlock(&world);
		pthread_mutex_unlock(&r->lock);
		return;
	}
	c->strict = false;
	if (c->model && c->write) {
		c->c.cdw10 = where_is(TRASH, 0) / (lba_size / SECTOR);
		c->version = ANY;
	}
	send_command(r, sqe, c);
	n = (void *)sqe->cmd;
	switch (s->a[3] % 12) {
	case 0:
		/* not the handle of another one */
		n->region = REGIONS * FILES + s->a[4] % 70000;
		break;
	case 1:
		n->region = s->a[4] | 1 << 30;
		n->meta_region = s->a[5];
		break;
	case 2:
		/* the bed counts what is beyond the length that is said */
		n->data_len = s->a[4] % (n->data_len + 1);
		n->cdw3 = c->form & 1 ? 0 : n->data_len;
		for (i = 0; c->form & 1 && i < n->data_len; i++)
			n->cdw3 += c->piece[i].len;
		break;
	case 3:
		/* a 32-bit program has the lower half only */
		n->addr = (__u64)s->a[4] << 32 | s->a[5] | 0xf0000000;
		break;
	case 4:
		n->flags = 1 << s->a[4] % 8;
		break;
	case 5:
		n->rsvd1 = s->a[4];
		n->rsvd2 = s->a[5];
		break;
	case 6:
		n->opcode = 0x80 | s->a[4] % 128;
		c->never = plan->sender != AS_ROOT;
		break;
	case 7:
		n->metadata = s->a[4] | 0xf0000000;
		n->metadata_len = s->a[5] % 8192;
		n->meta_region = n->region;
		n->cdw2 = n->metadata_len;
		break;
	case 8:
		sqe->buf_index = s->a[4];
		sqe->rw_flags = IORING_URING_CMD_FIXED;
		break;
	case 9:
		sqe->rw_flags = s->a[4];
		break;
	case 10:
		sqe->cmd_op ^= 1U << s->a[4] % 32;
		break;
	case 11:
		n->data_len = 0;
		n->addr = 0;
		n->region = 0;
		n->cdw3 = 0;
		n->opcode = NVME_CMD_WRITE_ZEROES;
		n->cdw10 = where_is(TRASH, 0) / (lba_size / SECTOR);
		c->never = plan->sender != AS_ROOT && !files[c->file].write;
		break;
	}
	/* what is read may be in any place of these pages */
	c->model = c->model && c->write;
	if (!c->model && c->slot < SLOTS)
		slots[c->slot].busy -= !c->write;
	pthread_mutex_unlock(&world);
	fr_submit(&r->r);
	pthread_mutex_unlock(&r->lock);
}

static void do_ioctl(const struct step *s)
{
	struct cmd *c;
	int fd, ret;

	pthread_mutex_lock(&world);
	c = new_command(s, 0, -1);
	fd = c ? files[c->file].fd : -1;
	pthread_mutex_unlock(&world);
	if (!c)
		return;
	ret = fr_ioctl(compat, fd, c->form == VEC ? NVME_IOCTL_IO64_CMD_VEC :
		       NVME_IOCTL_IO64_CMD, &c->c);
	pthread_mutex_lock(&world);
	/* it may have been closed just before */
	if (ret == -EBADF)
		c->strict = false;
	judge(c, ret);
	pthread_mutex_unlock(&world);
}

static void do_reap(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);

	if (!r)
		return;
	fr_look(&r->r);
	absorb(r);
	pthread_mutex_unlock(&r->lock);
}

static void do_cancel(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);
	struct io_uring_sqe *sqe;

	if (!r)
		return;
	sqe = r->r.flying < ENTRIES - 2 ? fr_put(&r->r, true) : NULL;
	if (sqe && r->r.setup & FR_SQE_MIXED)
		sqe->opcode = 63;	/* IORING_OP_NOP128 */
	else if (sqe)
		sqe->opcode = s->a[1] & 1 ? IORING_OP_ASYNC_CANCEL :
			      IORING_OP_NOP;
	if (sqe) {
		sqe->user_data = ~1ULL;
		sqe->addr = s->a[2] % (nr_cmds + 1);
		if (s->a[1] & 2)
			sqe->cancel_flags = 1 | 4;	/* all, any */
		r->r.flying++;
		fr_submit(&r->r);
		pthread_mutex_lock(&world);
		/* what has not been issued may be cancelled */
		for (unsigned int i = 0; i < nr_cmds; i++)
			if (cmds[i].flying)
				cmds[i].strict = false;
		pthread_mutex_unlock(&world);
	}
	pthread_mutex_unlock(&r->lock);
}

/* Registered buffers */

static void choose_buf(struct buf *b, __u32 a, __u32 d, int i)
{
	unsigned int n, j;

	b->valid = false;
	for (j = 0; j < AREAS; j++) {
		n = (a + i + j) % AREAS;
		if (!areas[n].at)
			continue;
		b->area = n;
		b->area_gen = areas[n].gen;
		b->at = areas[n].at;
		b->len = areas[n].len;
		if (d & 1) {
			b->at += (d >> 8) % (b->len / 4);
			b->len -= (d >> 8) % (b->len / 4) + b->len / 8;
		}
		b->valid = true;
		return;
	}
}

static void *vectors(const struct buf *b, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		size_t len = b[i].valid ? b[i].len : 0;
		void *at = b[i].valid ? b[i].at : NULL;

		low->iov[i] = (struct iovec) { at, len };
		low->iov32[i] = (struct iovec32) { (uintptr_t)at, len };
		low->tags[i] = 0;
	}
	return compat ? (void *)low->iov32 : low->iov;
}

static void do_bufs(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);
	struct buf b[BUFS] = { 0 };
	unsigned int i;

	if (!r)
		return;
	pthread_mutex_lock(&world);
	for (i = 0; i < BUFS; i++)
		choose_buf(&b[i], s->a[1], s->a[2] >> i, i);
	pthread_mutex_unlock(&world);
	if (!fr_register(&r->r, IORING_REGISTER_BUFFERS, vectors(b, BUFS),
			 BUFS)) {
		pthread_mutex_lock(&world);
		for (i = 0; i < BUFS; i++) {
			b[i].gen = r->buf[i].gen + 1;
			r->buf[i] = b[i];
		}
		r->nr_bufs = BUFS;
		pthread_mutex_unlock(&world);
	}
	pthread_mutex_unlock(&r->lock);
}

static void do_buf(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);
	unsigned int i = s->a[1] % BUFS;
	struct buf b = { 0 };

	if (!r)
		return;
	pthread_mutex_lock(&world);
	r->buf[i].gen++;
	r->buf[i].valid = false;
	if (s->a[2] & 7)
		choose_buf(&b, s->a[3], s->a[4], 0);
	pthread_mutex_unlock(&world);
	low->update = (struct io_uring_rsrc_update2) {
		.offset = i,
		.data = (uintptr_t)vectors(&b, 1),
		.tags = (uintptr_t)low->tags,
		.nr = 1,
	};
	if (fr_register(&r->r, IORING_REGISTER_BUFFERS_UPDATE, &low->update,
			sizeof(low->update)) == 1) {
		pthread_mutex_lock(&world);
		b.gen = r->buf[i].gen + 1;
		r->buf[i] = b;
		pthread_mutex_unlock(&world);
	}
	pthread_mutex_unlock(&r->lock);
}

static void do_clone(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);
	struct ring *from = &rings[s->a[1] % RINGS];
	unsigned int i;

	if (!r)
		return;
	if (r == from || pthread_mutex_trylock(&from->lock)) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	memset(&low->clone, 0, sizeof(low->clone));
	low->clone.src_fd = from->r.fd;
	/* IORING_REGISTER_DST_REPLACE, for those that have it */
	low->clone.flags = s->a[2] & 2;
	if (from->r.fd >= 0 &&
	    !fr_register(&r->r, IORING_REGISTER_CLONE_BUFFERS, &low->clone,
			 1)) {
		pthread_mutex_lock(&world);
		for (i = 0; i < BUFS; i++) {
			unsigned int gen = r->buf[i].gen + 1;

			r->buf[i] = from->buf[i];
			r->buf[i].gen = gen;
		}
		r->nr_bufs = from->nr_bufs;
		pthread_mutex_unlock(&world);
	}
	pthread_mutex_unlock(&from->lock);
	pthread_mutex_unlock(&r->lock);
}

static void do_unbuf(const struct step *s)
{
	struct ring *r = lock_ring(s->a[0], false);
	unsigned int i;

	if (!r)
		return;
	/* 6.12 waits there for what only this thread would poll for */
	for (i = 0; i < 200 && r->r.flying; i++) {
		fr_look(&r->r);
		absorb(r);
		usleep(1000);
	}
	if (!r->r.flying) {
		pthread_mutex_lock(&world);
		for (i = 0; i < BUFS; i++) {
			r->buf[i].gen++;
			r->buf[i].valid = false;
		}
		pthread_mutex_unlock(&world);
		fr_register(&r->r, IORING_UNREGISTER_BUFFERS, NULL, 0);
		r->nr_bufs = 0;
	}
	pthread_mutex_unlock(&r->lock);
}

/* Processes */

/* A child sends reads of its own through the files that it has got. */
static void __noreturn be_child(int fd, __u32 handle, unsigned int setup,
				__u64 at, __u32 how)
{
	struct fr_ring r;
	struct io_uring_sqe *sqe;
	unsigned int i, flying = 0;
	__u64 name;
	double end;
	int res;

	if (fr_open(&r, ENTRIES, setup, compat))
		_exit(0);
	for (i = 0; i < 16; i++) {
		struct nvme_ng_uring_cmd *n;

		sqe = fr_put(&r, true);
		if (!sqe)
			break;
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->fd = fd;
		sqe->cmd_op = NVME_NG_URING_CMD_IO;
		sqe->user_data = i;
		n = (void *)sqe->cmd;
		n->opcode = NVME_CMD_READ;
		n->nsid = target.nsid;
		n->addr = at;
		n->region = handle;
		n->data_len = NT_PAGE;
		n->cdw3 = NT_PAGE;
		n->cdw10 = where_is(CHILD, 0) / (lba_size / SECTOR);
		n->cdw12 = NT_PAGE / lba_size - 1;
		flying++;
	}
	fr_submit(&r);
	switch (how % 5) {
	case 0:
		_exit(0);
	case 1:
		kill(getpid(), SIGKILL);
		break;
	case 2:
		execl("/bin/true", "true", NULL);
		break;
	case 3:
		fr_close(&r);
		_exit(0);
	}
	for (end = now() + PATIENCE / 2; flying && now() < end; usleep(500)) {
		fr_look(&r);
		while (fr_reap(&r, &name, &res))
			flying--;
	}
	if (flying)
		broken("a child: %u commands without an end", flying);
	_exit(0);
}

static void do_fork(const struct step *s)
{
	static const unsigned int setups[] = {
		BIG, BIG | IORING_SETUP_IOPOLL, BIG | DEFER,
		BIG | IORING_SETUP_SQPOLL,
		BIG | IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL,
	};
	unsigned int i, n = s->a[0] % REGIONS, run = 0;
	struct region *r = NULL;
	struct area *a;
	pid_t pid;

	pthread_mutex_lock(&world);
	for (i = 0; i < REGIONS; i++) {
		r = &regions[(n + i) % REGIONS];
		a = &areas[r->area];
		/* what it reads to is nobody else's any more */
		if (r->handle && r->area_gen == a->gen && a->at &&
		    take_run(a, (r->skip + NT_PAGE - 1) / NT_PAGE, 2,
			     (r->skip + r->len) / NT_PAGE, &run))
			break;
	}
	if (i == REGIONS || nr_children == ARRAY_SIZE(children)) {
		pthread_mutex_unlock(&world);
		return;
	}
	files[r->file].flying++;
	pid = fork();
	if (!pid)
		be_child(files[r->file].fd, r->handle,
			 setups[s->a[1] % ARRAY_SIZE(setups)],
			 run * NT_PAGE - r->skip, s->a[2]);
	if (pid > 0)
		children[nr_children++] = pid;
	pthread_mutex_unlock(&world);
	if (pid > 0 && s->a[3] & 1) {
		usleep(s->a[4] % 4000);
		kill(pid, SIGKILL);
	}
}

static void do_wait(const struct step *s)
{
	usleep(s->a[0] % (s->a[1] & 3 ? 500 : 10000));
}

static void do_signal(const struct step *s)
{
	pthread_kill(threads[s->a[0] % plan->threads], SIGUSR1);
}

static void do_kill(const struct step *s)
{
	(void)s;
	if (s->a[0] & 1)
		return;
	sh->may_die = true;
	kill(getpid(), SIGKILL);
}

/* What the administrator does, meanwhile or while the thread waits. */
static void do_admin(const struct step *s)
{
	if (write(admin_pipe, s, sizeof(*s)) != sizeof(*s))
		broken("no administrator: %m");
	if (s->a[5] & 1)
		usleep(20000);
}

static void (*const steps[S_KINDS])(const struct step *s) = {
	[S_CMD] = do_commands,
	[S_IOCTL] = do_ioctl,
	[S_REAP] = do_reap,
	[S_MAP] = do_map,
	[S_UNMAP] = do_unmap,
	[S_LIMITS] = do_limits,
	[S_OPEN] = do_open,
	[S_CLOSE] = do_close,
	[S_RING] = do_ring,
	[S_RING_END] = do_ring_end,
	[S_AREA] = do_area,
	[S_AREA_END] = do_area_end,
	[S_AREA_HURT] = do_area_hurt,
	[S_BUFS] = do_bufs,
	[S_BUF] = do_buf,
	[S_CLONE] = do_clone,
	[S_UNBUF] = do_unbuf,
	[S_FORK] = do_fork,
	[S_BAD] = do_bad,
	[S_CANCEL] = do_cancel,
	[S_WAIT] = do_wait,
	[S_SIGNAL] = do_signal,
	[S_CHURN] = do_churn,
	[S_RESCAN] = do_admin,
	[S_RESET] = do_admin,
	[S_INJECT] = do_admin,
	[S_TIMEOUT] = do_admin,
	[S_PATH] = do_admin,
	[S_REBIND] = do_admin,
	[S_SURPRISE] = do_admin,
	[S_FORMAT] = do_admin,
	[S_KILL] = do_kill,
};

static void *run_thread(void *arg)
{
	unsigned int me = (uintptr_t)arg, i;
	double start;

	low = low_memory(sizeof(*low), MAP_PRIVATE);
	pthread_barrier_wait(&all_there);
	for (i = 0; i < plan->nr; i++) {
		const struct step *s = &plan->step[i];

		if (s->thread != me || plan->skip[i])
			continue;
		sh->at[me] = i;
		start = now();
		steps[s->kind](s);
		sh->took[s->kind] += now() - start;
	}
	/* rings that belong to a thread end with it */
	for (i = 0; i < RINGS; i++) {
		struct ring *r = &rings[i];
		double end = now() + PATIENCE / 2;

		while (me && r->r.fd >= 0 && r->r.setup &
		       IORING_SETUP_SINGLE_ISSUER &&
		       r->r.owner == syscall(SYS_gettid)) {
			pthread_mutex_lock(&r->lock);
			fr_look(&r->r);
			absorb(r);
			if (!r->r.flying) {
				r->gen++;
				fr_close(&r->r);
			}
			pthread_mutex_unlock(&r->lock);
			if (now() > end)
				broken("ring %#x: %u commands without an end",
				       r->r.setup, r->r.flying);
		}
	}
	sh->at[me] = MAX_STEPS;
	return NULL;
}

/* For somebody who wants to know what does not end. */
static void __noreturn endless(struct ring *r)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr_cmds && n < 40; i++) {
		struct cmd *c = &cmds[i];

		if (!c->flying || &rings[c->ring] != r)
			continue;
		nt_note("command %u, sent at step %u, flags %#x: form %d, opcode %02x, %u bytes",
			i, c->step, c->flags, c->form, c->c.opcode,
			c->nr * SECTOR);
		n++;
	}
	nt_note("the submission queue: head %u, tail %u; threads at %u, %u, %u",
		*r->r.sq_head, r->r.tail, sh->at[0], sh->at[1], sh->at[2]);
	fflush(stdout);
	broken("ring %#x: %u commands without an end", r->r.setup,
	       r->r.flying);
}

/* All that is in flight in rings that are open. */
static void drain(void)
{
	double end = now() + PATIENCE / 2;
	unsigned int i, flying;

	for (;; usleep(200)) {
		for (flying = i = 0; i < RINGS; i++) {
			struct ring *r = &rings[i];

			if (r->r.fd < 0 || !r->r.flying)
				continue;
			fr_look(&r->r);
			absorb(r);
			flying += r->r.flying;
			if (now() > end && r->r.flying)
				endless(r);
		}
		if (!flying)
			break;
	}
	/* nothing comes any more */
	for (i = 0; i < RINGS; i++)
		if (rings[i].r.fd >= 0)
			absorb(&rings[i]);
}

static void nothing(int sig)
{
	(void)sig;
}

/* The program of a sequence */
static void __noreturn be_program(void)
{
	struct rlimit lock = {
		(rlim_t)plan->memlock << 10, (rlim_t)plan->memlock << 10
	};
	struct sigaction act = { .sa_handler = nothing };
	unsigned int i;
	double start;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (plan->sender != AS_ROOT) {
		setrlimit(RLIMIT_MEMLOCK, &lock);
		if (setgroups(0, NULL) || setresgid(NT_TESTER, NT_TESTER,
						    NT_TESTER) ||
		    setresuid(NT_TESTER, NT_TESTER, NT_TESTER))
			broken("cannot become uid %u: %m", NT_TESTER);
	}
	sigaction(SIGUSR1, &act, NULL);
	compat = plan->sender == AS_32BIT;
	cmds = low_memory(CMDS * sizeof(*cmds), MAP_PRIVATE);
	arena = low_memory((MAX_STEPS + 2) * 2 * NT_HUGE, MAP_PRIVATE |
			   MAP_NORESERVE);
	arena_end = arena + (MAX_STEPS + 1) * 2 * NT_HUGE;
	arena += -(uintptr_t)arena % NT_HUGE;
	for (i = 0; i < FILES; i++)
		files[i].fd = -1;
	for (i = 0; i < RINGS; i++) {
		rings[i].r.fd = -1;
		pthread_mutex_init(&rings[i].lock, NULL);
	}
	for (i = 0; i < SLOTS; i++)
		memset(slots[i].version, 0xff, sizeof(slots[i].version));
	versions = (__u32)plan->seed << 12;

	threads[0] = pthread_self();
	pthread_barrier_init(&all_there, NULL, plan->threads);
	for (i = 1; i < plan->threads; i++)
		if (pthread_create(&threads[i], NULL, run_thread,
				   (void *)(uintptr_t)i))
			broken("no thread");
	run_thread(NULL);
	for (i = 1; i < plan->threads; i++)
		pthread_join(threads[i], NULL);
	start = now();
	drain();
	sh->took[S_KINDS] = now() - start;
	for (i = 0; i < nr_children; i++) {
		if (plan->step[i].a[5] & 1)
			kill(children[i], SIGKILL);
		if (waitpid(children[i], &status, 0) != children[i])
			broken("waitpid: %m");
	}
	_exit(0);
}

/* The administrator */

static int monitor(const char *command, const char *arguments)
{
	char line[512];

	snprintf(line, sizeof(line), "qmp %s '%s' >/dev/null 2>&1", command,
		 arguments);
	return system(line);
}

static bool tell(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) ==
		(ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* The controller in the slot: nvmeN */
static bool find_ctrl(char *name, size_t size)
{
	char path[300];
	bool found;
	glob_t g;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/nvme/nvme*",
		 pci);
	if (glob(path, 0, NULL, &g))
		return false;
	found = g.gl_pathc == 1;
	if (found)
		snprintf(name, size, "%s", strrchr(g.gl_pathv[0], '/') + 1);
	globfree(&g);
	return found;
}

static bool is_live(void)
{
	char path[400], name[32], state[16] = "";
	FILE *f;

	if (!find_ctrl(name, sizeof(name)))
		return false;
	snprintf(path, sizeof(path), "/sys/class/nvme/%s/state", name);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%15s", state) != 1)
			state[0] = 0;
		fclose(f);
	}
	return !strcmp(state, "live");
}

static int open_ctrl(void)
{
	char name[32], path[64];

	if (!find_ctrl(name, sizeof(name)))
		return -1;
	snprintf(path, sizeof(path), "/dev/%s", name);
	return open(path, O_RDWR | O_CLOEXEC);
}

static void rules(const struct nt_rule *rule)
{
	struct nt_rule all[NT_PAGE / sizeof(*rule)] = { 0 };
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)all,
		.data_len = sizeof(all),
		.cdw10 = FEATURE_INJECT,
	};
	int fd;

	if (rule)
		memcpy(all, rule, 2 * sizeof(*rule));
	fd = open_ctrl();
	if (fd < 0)
		return;
	nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL);
	close(fd);
}

static void inject(const struct step *s)
{
	static const __u16 bad[] = { 0x006, 0x281, 0x004, 0x2, 0x082 };
	struct nt_rule rule[2] = {
		{
			.opcode = s->a[0] & 1 ? NVME_CMD_READ : NVME_CMD_WRITE,
			.count = htole32(1 + s->a[1] % 8),
		},
	};

	if (s->a[2] & 1)
		rule[0].status = htole16(bad[s->a[3] % ARRAY_SIZE(bad)]);
	if (s->a[2] & 6)
		rule[0].delay_ms = htole32(s->a[4] % (s->a[2] & 8 ? 200 : 1500));
	/* Abort is not answered for a while */
	if (!(s->a[2] >> 4 & 7)) {
		rule[1].admin = 1;
		rule[1].opcode = 0x08;
		rule[1].delay_ms = htole32(1500);
	}
	rules(rule);
}

static void in_ctrl(const char *file, const char *text)
{
	char name[32], path[400];

	if (!find_ctrl(name, sizeof(name)))
		return;
	snprintf(path, sizeof(path), "/sys/class/nvme/%s/%s", name, file);
	tell(path, text);
}

/* The timeout of commands that do not say one */
static void set_timeout(const char *ms)
{
	char name[32], path[400];
	unsigned int i;
	glob_t g;

	if (!find_ctrl(name, sizeof(name)))
		return;
	snprintf(path, sizeof(path), "/sys/class/nvme/%s/nvme*/queue/io_timeout",
		 name);
	if (glob(path, 0, NULL, &g))
		return;
	for (i = 0; i < g.gl_pathc; i++)
		tell(g.gl_pathv[i], ms);
	globfree(&g);
}

static void format(__u32 lbaf)
{
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_FORMAT,
		.nsid = target.nsid,
		.cdw10 = lbaf,
	};
	int fd;

	fd = open_ctrl();
	if (fd < 0)
		return;
	atomic_fetch_add(&sh->formats, 1);
	nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL);
	atomic_fetch_add(&sh->formats, 1);
	close(fd);
}

static void rebind(void)
{
	tell("/sys/bus/pci/drivers/nvme/unbind", pci);
	tell("/sys/bus/pci/drivers/nvme/bind", pci);
}

static void remove_and_rescan(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", pci);
	tell(path, "1");
	tell("/sys/bus/pci/rescan", "1");
}

/* Cut the power of the slot behind the back of its driver. */
static void surprise(void)
{
	unsigned char config[256];
	char path[PATH_MAX + 8];
	unsigned int at;
	__u16 on, off;
	int fd;

	snprintf(path, sizeof(path), "%s/config", port);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, config, sizeof(config), 0) != sizeof(config))
		goto out;
	for (at = config[PCI_CAPABILITY_LIST];
	     at && config[at] != PCI_CAP_ID_EXP; at = config[at + 1])
		;
	if (!at)
		goto out;
	at += PCI_EXP_SLTCTL;
	memcpy(&on, config + at, sizeof(on));
	off = on | htole16(PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF);
	/* the driver does nothing about a slot that is off already */
	off &= ~htole16(PCI_EXP_SLTCTL_HPIE);
	sh->gone = true;
	if (pwrite(fd, &off, 2, at) == 2)
		(void)!pwrite(fd, &on, 2, at);
out:
	if (fd >= 0)
		close(fd);
}

static bool until(bool (*is)(void), bool want, unsigned int s)
{
	double end = now() + s;

	while (is() != want) {
		if (now() > end)
			return false;
		usleep(10000);
	}
	return true;
}

static void __noreturn be_administrator(int fd)
{
	struct step s;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fd, &s, sizeof(s)) == sizeof(s)) {
		switch (s.kind) {
		case S_RESET:
			/* the driver does not take one while it probes */
			if (until(is_live, true, 2))
				in_ctrl("reset_controller", "1");
			break;
		case S_RESCAN:
			in_ctrl("rescan_controller", "1");
			break;
		case S_INJECT:
			inject(&s);
			break;
		case S_TIMEOUT:
			set_timeout(s.a[0] & 1 ? "300" : "1000");
			break;
		case S_PATH:
			remove_and_rescan();
			break;
		case S_REBIND:
			rebind();
			break;
		case S_SURPRISE:
			surprise();
			break;
		case S_FORMAT:
			/* not what another controller has, too */
			if (phase != PATH)
				format(s.a[0] % 8);
			break;
		}
	}
	_exit(0);
}

/* The device */

static bool in_slot(void)
{
	char path[300];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", pci);
	return *pci && !access(path, F_OK);
}

static bool slot_off(void)
{
	unsigned char config[256];
	char path[PATH_MAX + 8];
	unsigned int at;
	__u16 control;
	int fd;

	snprintf(path, sizeof(path), "%s/config", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (pread(fd, config, sizeof(config), 0) != sizeof(config)) {
		close(fd);
		return true;
	}
	close(fd);
	for (at = config[PCI_CAPABILITY_LIST];
	     at && config[at] != PCI_CAP_ID_EXP; at = config[at + 1])
		;
	memcpy(&control, config + at + PCI_EXP_SLTCTL, sizeof(control));
	return control & htole16(PCI_EXP_SLTCTL_PWR_OFF) &&
		(control & htole16(PCI_EXP_SLTCTL_PWR_IND_OFF)) ==
		htole16(PCI_EXP_SLTCTL_PWR_IND_OFF);
}

/* Controllers that were there before. */
static char known[64][32];
static unsigned int nr_known;

static void know_ctrls(void)
{
	glob_t g;
	size_t i;

	nr_known = 0;
	if (glob("/sys/class/nvme/nvme*", 0, NULL, &g))
		return;
	for (i = 0; i < g.gl_pathc && i < ARRAY_SIZE(known); i++)
		snprintf(known[nr_known++], 32, "%s",
			 strrchr(g.gl_pathv[i], '/') + 1);
	globfree(&g);
}

/* The one that came: its address and its slot */
static bool find_new(void)
{
	char path[PATH_MAX], real[PATH_MAX];
	bool found = false;
	unsigned int j;
	glob_t g;
	size_t i;

	if (glob("/sys/class/nvme/nvme*", 0, NULL, &g))
		return false;
	for (i = 0; i < g.gl_pathc && !found; i++) {
		const char *name = strrchr(g.gl_pathv[i], '/') + 1;

		for (j = 0; j < nr_known && strcmp(known[j], name); j++)
			;
		if (j < nr_known)
			continue;
		snprintf(path, sizeof(path), "%s/device", g.gl_pathv[i]);
		if (!realpath(path, real))
			continue;
		snprintf(pci, sizeof(pci), "%s", strrchr(real, '/') + 1);
		*strrchr(real, '/') = 0;
		memcpy(port, real, strlen(real) + 1);
		found = true;
	}
	globfree(&g);
	return found;
}

static bool device_add(void)
{
	char arguments[400], what[200];

	if (phase == PATH)
		snprintf(what, sizeof(what),
			 "\"serial\": \"NVMENG-A\", \"subsys\": \"A\"");
	else
		snprintf(what, sizeof(what),
			 "\"serial\": \"NVMENG-X\", \"drive\": \"F%u\", \"sgls\": %s",
			 plugs, phase == SGL ? "true" : "false");
	snprintf(arguments, sizeof(arguments),
		 ADD_SLOT,
		 what);
	return !monitor("device_add", arguments);
}

static bool has_node(void)
{
	char name[32], path[PATH_MAX], real[PATH_MAX], serial[32];
	const char *want = phase == PATH ? "NVMENG-A" : "NVMENG-X";
	bool found = false;
	glob_t g;
	size_t i;
	FILE *f;
	int nsid;

	if (!is_live() || !find_ctrl(name, sizeof(name)))
		return false;
	if (glob("/sys/class/nvme-generic/ng*", 0, NULL, &g))
		return false;
	for (i = 0; i < g.gl_pathc && !found; i++) {
		snprintf(path, sizeof(path), "%s/nsid", g.gl_pathv[i]);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%d", &nsid) != 1)
			nsid = 0;
		fclose(f);
		if (nsid != (phase == PATH ? 7 : 1) ||
		    !nt_serial(g.gl_pathv[i], serial, sizeof(serial)) ||
		    strcmp(serial, want))
			continue;
		snprintf(path, sizeof(path), "%s/device", g.gl_pathv[i]);
		/* not the node of one that is gone, which somebody has open */
		if (phase != PATH && (!realpath(path, real) ||
				      strcmp(strrchr(real, '/') + 1, name)))
			continue;
		snprintf(target.dev.path, sizeof(target.dev.path), "/dev/%s",
			 strrchr(g.gl_pathv[i], '/') + 1);
		found = !access(target.dev.path, F_OK);
		target.nsid = nsid;
		target.testbed = true;
	}
	globfree(&g);
	return found;
}

static void make_drive(void)
{
	char arguments[256];
	unsigned int i;

	plugs = plugs ? plugs + 1 : (unsigned int)getpid() * 100;
	snprintf(arguments, sizeof(arguments),
		 CREATE_DRIVE, plugs, plugs, SIZE);
	if (monitor("blockdev-create", arguments))
		nt_fail("no drive");
	for (i = 0; i < 50; i++) {
		snprintf(arguments, sizeof(arguments), "{\"id\": \"F%u\"}",
			 plugs);
		if (!monitor("job-dismiss", arguments))
			break;
		usleep(50000);
	}
	snprintf(arguments, sizeof(arguments),
		 ADD_DRIVE,
		 plugs, plugs);
	if (monitor("blockdev-add", arguments))
		nt_fail("no drive");
}

/* Commands take each path in turn, or the one that is near. */
static void set_policy(const char *policy)
{
	char path[PATH_MAX], serial[32];
	glob_t g;
	size_t i;

	if (glob("/sys/class/nvme-subsystem/nvme-subsys*", 0, NULL, &g))
		return;
	for (i = 0; i < g.gl_pathc; i++) {
		if (!nt_serial(g.gl_pathv[i], serial, sizeof(serial)) ||
		    strcmp(serial, "NVMENG-A"))
			continue;
		snprintf(path, sizeof(path), "%s/iopolicy", g.gl_pathv[i]);
		tell(path, policy);
	}
	globfree(&g);
}

static void plug(void)
{
	know_ctrls();
	if (phase == PATH)
		set_policy("round-robin");
	else
		make_drive();
	if (!until(device_add, true, PATIENCE))
		nt_fail("no controller in the slot");
	if (!until(find_new, true, PATIENCE) ||
	    !until(has_node, true, PATIENCE))
		nt_fail("no node that works");
}

static void unplug(void)
{
	if (in_slot()) {
		monitor("device_del", "{\"id\": \"" SLOT_ID "\"}");
		if (!until(in_slot, false, PATIENCE))
			nt_fail("the controller stays in its slot");
	}
	until(slot_off, true, 20);
	*pci = 0;
	if (phase == PATH)
		set_policy("numa");
}

/* Watching */

static int log_fd = -1;

/* What a kernel says that is in trouble */
static bool is_trouble(const char *line)
{
	static const char *const words[] = {
		"cut here", "WARNING:", "BUG:", "Oops", "general protection",
		"KASAN", "KCSAN", "KFENCE", "UBSAN", "blocked for more",
		"soft lockup", "LOCKUP", "stall", "deadlock", "Bad page",
		"bad page", "refcount_t:", "corruption", "DMAR:",
		"Objects remaining",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

static bool kernel_complains(char *why, size_t size)
{
	static char record[8192];
	bool bad = false;
	ssize_t len;
	char *text;

	for (;;) {
		len = read(log_fd, record, sizeof(record) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			return bad;
		record[len] = 0;
		text = strchr(record, ';');
		text = text ? text + 1 : record;
		text[strcspn(text, "\n")] = 0;
		if (!bad && is_trouble(text)) {
			snprintf(why, size, "the kernel says: %.300s", text);
			bad = true;
		}
		if (bad)
			nt_note("%s", text);
	}
}

static void show_blocked(void)
{
	tell("/proc/sysrq-trigger", "w");
}

enum result { GOOD, BAD, HANGS, KERNEL };

static const char *why(void)
{
	return sh->why;
}

static void make_node(void)
{
	struct stat st;

	snprintf(node, sizeof(node), "/dev/fuzz-life");
	unlink(node);
	if (stat(target.dev.path, &st) ||
	    mknod(node, S_IFCHR | 0600, st.st_rdev) ||
	    chown(node, NT_TESTER, NT_TESTER))
		nt_die("cannot make %s: %m", node);
}

static __u32 oob(void)
{
	char name[32], path[64];
	__u64 result = 0;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_GET_FEATURES,
		.cdw10 = 0xc1,
	};
	int fd;

	if (!find_ctrl(name, sizeof(name)))
		return 0;
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, &result))
		result = 0;
	if (fd >= 0)
		close(fd);
	return result;
}

/* Wait for a process for so long. */
static bool ended(pid_t pid, int *status, double end)
{
	unsigned int delay = 200;

	for (;;) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		if (now() > end)
			return false;
		usleep(delay);
		if (delay < 5000)
			delay *= 2;
	}
}

/* After trouble: is the device as it was? */
static bool recover(const struct plan *p)
{
	if (sh->gone) {
		until(in_slot, false, 20);
		unplug();
		plug();
		return true;
	}
	if (!until(is_live, true, PATIENCE))
		return false;
	rules(NULL);
	set_timeout("30000");
	if (p->format && phase != PATH) {
		format(0);
		sh->gone = false;
	}
	return until(has_node, true, PATIENCE);
}

static enum result run_plan(const struct plan *p)
{
	struct nvme_ng_limits l;
	double end = now() + PATIENCE;
	enum result result = GOOD;
	pid_t program, admin;
	int fds[2], status, fd, i;
	__u32 stray;

	memset(sh, 0, sizeof(*sh));
	plan = p;
	make_node();
	fd = open(node, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 200; i++) {
		int ret = fd < 0 ? 0 : nt_limits(fd, &l);

		/* by hand, for comparison: another driver */
		if (ret == -ENOTTY)
			l = (struct nvme_ng_limits) { .lba_size = SECTOR };
		if (fd < 0 || l.lba_size)
			break;
		usleep(10000);
	}
	if (fd < 0 || i == 200)
		nt_fail("%s does not work: %m", target.dev.path);
	close(fd);
	lim = l;
	lba_size = l.lba_size;
	fflush(stdout);
	if (pipe2(fds, O_CLOEXEC))
		nt_die("pipe: %m");
	program = fork();
	if (!program) {
		setsid();
		close(fds[0]);
		admin_pipe = fds[1];
		be_program();
	}
	close(fds[1]);
	admin = fork();
	if (!admin)
		be_administrator(fds[0]);
	close(fds[0]);

	if (!ended(program, &status, end)) {
		snprintf(sh->why, sizeof(sh->why),
			 "the program hangs; its threads are at steps %u, %u, %u",
			 sh->at[0], sh->at[1], sh->at[2]);
		show_blocked();
		result = HANGS;
	} else if (sh->failed) {
		result = BAD;
	} else if (WIFSIGNALED(status) && !(sh->may_die && WTERMSIG(status) ==
					    SIGKILL)) {
		snprintf(sh->why, sizeof(sh->why), "the program died of signal %d",
			 WTERMSIG(status));
		result = BAD;
	}
	/* what it left running holds the pipe of the administrator */
	if (result != HANGS)
		kill(-program, SIGKILL);
	if (!ended(admin, &status, end + PATIENCE)) {
		snprintf(sh->why, sizeof(sh->why), "the administrator hangs");
		show_blocked();
		result = HANGS;
	}
	if (kernel_complains(sh->why, sizeof(sh->why)))
		result = KERNEL;
	if (result < HANGS && !p->calm && !recover(p)) {
		snprintf(sh->why, sizeof(sh->why),
			 "the controller does not come back");
		show_blocked();
		result = HANGS;
	}
	stray = result < HANGS ? oob() : 0;
	if (stray) {
		snprintf(sh->why, sizeof(sh->why),
			 "%u accesses outside of buffers", stray);
		result = BAD;
	}
	if (verbose) {
		nt_note("took %.3f s", now() - end + PATIENCE);
		for (i = 0; i <= S_KINDS; i++)
			if (sh->took[i] > 0.02)
				nt_note("  %s: %.3f s", i < S_KINDS ?
					kinds[i].name : "drain", sh->took[i]);
		for (i = 0; i < 256; i++)
			if (sh->errors[i])
				nt_note("  %s: %u", strerror(i), sh->errors[i]);
	}
	total_sent += sh->sent;
	total_ok += sh->ok;
	total_status += sh->status;
	total_refused += sh->refused;
	total_strict += sh->strict;
	total_checked += sh->checked;
	done_sequences++;
	return result;
}

/* Does it fail as often as not? */
static bool still_fails(const struct plan *p, double end)
{
	unsigned int i;

	for (i = 0; i < 4 && now() < end; i++)
		if (run_plan(p) == BAD)
			return true;
	return false;
}

/* Leave out ever smaller parts of the steps, as long as it fails without. */
static void shorten(struct plan *p)
{
	double end = now() + 60;
	char last[sizeof(sh->why)];
	unsigned int part, at, i;
	struct plan try;

	if (!still_fails(p, end)) {
		nt_note("it does not fail again");
		return;
	}
	memcpy(last, sh->why, sizeof(last));
	for (part = p->nr / 2; part; part /= 2) {
		for (at = 0; at < p->nr && now() < end; at += part) {
			try = *p;
			for (i = at; i < at + part && i < p->nr; i++)
				try.skip[i] = true;
			if (!memcmp(&try, p, sizeof(try)) ||
			    !still_fails(&try, end))
				continue;
			*p = try;
			memcpy(last, sh->why, sizeof(last));
		}
	}
	nt_note("the shortest that fails%s: %s", now() < end ? "" : " so far",
		last);
	show_plan(p);
}

struct phase_arg {
	enum phase phase;
	enum sender sender;
};

static void keep_steps(struct plan *p)
{
	char *list, *word;
	unsigned int i;

	if (!*only_steps)
		return;
	for (i = 0; i < p->nr; i++)
		p->skip[i] = true;
	list = strdup(only_steps);
	for (word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		i = atoi(word);
		if (i < p->nr)
			p->skip[i] = false;
	}
	free(list);
}

static void run_sequences(void *arg)
{
	const struct phase_arg *a = arg;
	static struct plan p;
	double start = now();
	enum result result;
	unsigned long n;
	__u64 seed;

	done_sequences = 0;
	total_sent = 0;
	total_ok = 0;
	total_status = 0;
	total_refused = 0;
	total_strict = 0;
	total_checked = 0;
	for (n = 0; sequences ? n < sequences : now() < start + seconds; n++) {
		seed = replay ? base_seed + n * !*only_steps :
		       (base_seed + n) * SENDERS + a->sender;
		make_plan(&p, seed, a->sender);
		keep_steps(&p);
		if (verbose)
			show_plan(&p);
		result = run_plan(&p);
		if (result == GOOD)
			continue;
		nt_note("%s", why());
		show_plan(&p);
		if (result != BAD) {
			/* this kernel is of no use any more */
			fflush(stdout);
			_exit(1);
		}
		shorten(&p);
		nt_fail("a sequence failed, see above");
	}
	nt_note("%lu sequences, %lu commands: %lu well, %lu bad, %lu refused; %lu, data %lu",
		done_sequences, total_sent, total_ok, total_status,
		total_refused, total_strict, total_checked);
}

static void run_phase(void *arg)
{
	struct phase_arg *a = arg;

	if (a->sender == AS_32BIT && !has_compat)
		nt_skip("the kernel runs no 32-bit programs");
	if (a->phase != phase || !in_slot()) {
		unplug();
		phase = a->phase;
		plug();
	}
	run_sequences(arg);
}

static void gone(void *arg)
{
	(void)arg;
	unplug();
	unlink(node);
}

static bool option(const char *arg)
{
	unsigned long long n;

	if (sscanf(arg, "--seed=%llu", &n) == 1) {
		base_seed = n;
		return true;
	}
	if (!strncmp(arg, "--steps=", 8)) {
		snprintf(only_steps, sizeof(only_steps), "%s", arg + 8);
		replay = true;
		if (!sequences)
			sequences = 1;
		return true;
	}
	if (!strncmp(arg, "--as=", 5)) {
		only_sender = arg + 5;
		return true;
	}
	if (!strncmp(arg, "--device=", 9)) {
		only_phase = arg + 9;
		return true;
	}
	if (!strcmp(arg, "--verbose")) {
		verbose = true;
		return true;
	}
	return sscanf(arg, "--seconds=%lu", &seconds) == 1 ||
		sscanf(arg, "--sequences=%lu", &sequences) == 1;
}

/* To plug a controller takes seconds: for a short run, one of them. */
static void choose_phase(void)
{
	struct utsname u;

	if (!uname(&u))
		sscanf(u.release, "%u.%u", &major, &minor);
	if (only_phase || sequences || seconds >= 120)
		return;
	only_phase = major > 6 ? "2" : minor > 6 ? "s" : "p";
}

static bool is_wanted(const struct phase_arg *a)
{
	return (!only_sender || strchr(only_sender, "ur3"[a->sender])) &&
		(!only_phase || strchr(only_phase, "sp2"[a->phase]));
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Try sequences of what can happen to regions, buffers and rings.",
		.wants = "suitable",
		.serial = "NVMENG-X",
		.usage = "  --seconds=N    run so long, default 30, and less than 120 with one\n"
			 "                 device, another one for each kernel\n"
			 "  --sequences=N  or run N for each kind of sender and device\n"
			 "  --seed=N       of the first sequence\n"
			 "  --steps=LIST   only these steps of the one with that seed\n"
			 "  --as=u|r|3     as uid 1000, root, or a 32-bit program\n"
			 "  --device=s|p|2 with SGLs, PRPs only, or a second path\n"
			 "  --verbose      print all sequences",
		.option = option,
	};
	static struct phase_arg all[PHASES * SENDERS];
	struct rlimit fds = { 4096, 4096 };
	unsigned int i, n = 0;

	base_seed = 1;
	nt_init(argc, argv, &prog);
	choose_phase();
	if (access(MONITOR, F_OK))
		nt_skip_all("no monitor of the test bed to plug a controller with");
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		all[n].phase = i / SENDERS;
		all[n].sender = i % SENDERS;
		n += is_wanted(&all[n]);
	}
	if (!n)
		nt_die("no such sender or device");
	seconds = seconds / n + !!(seconds % n);
	has_compat = fr_has_compat();
	setrlimit(RLIMIT_NOFILE, &fds);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		nt_die("no memory");
	udmabuf = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0)
		nt_die("/dev/kmsg: %m");
	lseek(log_fd, 0, SEEK_END);

	nt_plan(n + 2);
	nt_pins_mark();
	for (i = 0; i < n; i++)
		nt_test(run_phase, &all[i], "%s, %s",
			phase_names[all[i].phase], sender_names[all[i].sender]);
	nt_test(gone, NULL, "unplugged");
	nt_pins_test();
	return nt_end();
}
