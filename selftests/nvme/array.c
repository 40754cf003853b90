// SPDX-License-Identifier: GPL-2.0
/*
 * Commands that are handed over in arrays: each that is taken ends once, where
 * the program sees it, and as it would have ended alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define N		64	/* commands of most cases */
#define MANY		4096	/* the largest array */
#define UID		1000
#define PATIENCE	60000	/* ms */
#define FOR_EVER	htole32(600000)

/* of all cases, each of which is a process of its own */
static struct nt_ring ring;
static struct nt_results results;
static struct nvme_ng_array_cmd cmds[MANY];
static unsigned char *mem, *want;
static __u32 region, unit, pieces;
static const char *only = "";

struct job {
	void (*run)(void *arg);
	struct nt_ns *ns;
	const struct nt_mode *mode;
	bool worker;
};

/* Read place @place to piece @piece of the memory; the tag says which. */
static void make(const struct nt_ns *ns, unsigned int i, unsigned int place,
		 unsigned int piece)
{
	struct nvme_uring_cmd cmd;

	nt_place_cmd(ns, place, false, unit, &cmd);
	/* what there is of separate metadata goes nowhere */
	cmd.metadata = 0;
	cmd.metadata_len = 0;
	cmd.addr = (__u64)piece * unit;
	cmd.data_len = unit;
	memset(&cmds[i], 0, sizeof(cmds[i]));
	memcpy(&cmds[i].cmd, &cmd, sizeof(cmd));
	cmds[i].cmd.region = region;
	cmds[i].tag = 0xfeed000000000000ULL | i;
}

/* Places 0 to 7 hold bytes, and a ring of @entries is there. */
static void start(struct nt_ns *ns, unsigned int setup, unsigned int entries)
{
	struct nvme_uring_cmd cmd;
	unsigned int i;

	unit = nt_place_unit(ns) < 512 ? 512 : nt_place_unit(ns);
	pieces = entries > 4 * N ? entries : 4 * N;
	mem = nt_alloc(pieces * unit, 0);
	want = nt_alloc(8 * unit, 0);
	for (i = 0; i < 8; i++) {
		/* what was sent last is all that there is */
		unsigned int place = ns->csi == NVME_CSI_ECHO ? 0 : i;

		nt_place_reset(ns, place);
		nt_place_fill(ns, place, want + i * unit, unit, i + 1);
		nt_place_cmd(ns, place, true, unit, &cmd);
		cmd.addr = (uintptr_t)want + i * unit;
		cmd.data_len = unit;
		nt_status(nt_io(ns, NT_IOCTL, &cmd, NULL), NVME_SC_SUCCESS);
	}
	if (ns->csi == NVME_CSI_ECHO)
		for (i = 0; i < 7; i++)
			memcpy(want + i * unit, want + 7 * unit, unit);
	nt_pins_mark();
	nt_ring_open(&ring, 128, setup);
	nt_status(nt_map(ns->dev.fd, 0, mem, pieces * unit, &region), 0);
	nt_results_make(ns->dev.fd, entries, &results);
}

static unsigned int place_of(const struct nt_ns *ns, unsigned int i)
{
	return ns->csi == NVME_CSI_ECHO ? 0 : i % 8;
}

/* The end of an array: how many commands it took, or a negative errno. */
static int reap(void)
{
	unsigned int name;
	int res;

	if (!nt_ring_reap(&ring, PATIENCE, &name, &res))
		nt_die("%u arrays did not complete within %d s", ring.flying,
		       PATIENCE / 1000);
	return res;
}

static int take(const struct nt_ns *ns, unsigned int from, unsigned int nr)
{
	nt_array_put(&ring, ns->dev.fd, cmds + from, nr, results.ring);
	nt_ring_submit(&ring);
	return reap();
}

/* What @res of @nr commands from @from on have left, as after a scan's freeze. */
static void finish(const struct nt_ns *ns, unsigned int from, unsigned int nr,
		   int res)
{
	unsigned int tries = 0;

	for (;;) {
		if (res > 0) {
			from += res;
			nr -= res;
		} else if (res != -EAGAIN || tries++ > PATIENCE / 10) {
			nt_fail("an array ended with %d", res);
		} else {
			usleep(10000);
		}
		if (!nr)
			return;
		res = take(ns, from, nr);
	}
}

/* @nr commands from @from on have ended once, and with @status if that is known. */
static void ended(unsigned int from, unsigned int nr, const int *status)
{
	static unsigned char seen[MANY];
	unsigned int i;
	__u64 tag;
	int got;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < nr; i++) {
		if (!nt_results_next(&results, &tag, &got))
			nt_fail("%u of %u commands have not ended", nr - i, nr);
		if (tag >> 48 != 0xfeed || (tag & 0xffffffff) - from >= nr)
			nt_fail("command %#llx ended, which was not sent",
				(unsigned long long)tag);
		tag &= 0xffffffff;
		if (seen[tag]++)
			nt_fail("command %llu ended twice",
				(unsigned long long)tag);
		if (status && got != *status)
			nt_status(got, *status);
	}
	if (nt_results_next(&results, &tag, &got))
		nt_fail("command %#llx ended, too", (unsigned long long)tag);
}

static const int good;

/* As many as there are, by all ways of a ring, together with single ones. */
static void run_data(void *arg)
{
	const struct job *j = arg;
	struct io_uring_sqe *sqe;
	unsigned int i, k, name;
	int res, was[2];

	start(j->ns, j->mode->setup, 2 * N);
	for (k = 0; k < 4; k++) {
		memset(mem, NT_POISON, 3 * N * unit);
		for (i = 0; i < 2 * N; i++)
			make(j->ns, i, place_of(j->ns, i), i);
		sqe = nt_array_put(&ring, j->ns->dev.fd, cmds, N, results.ring);
		if (j->worker)
			sqe->flags |= IOSQE_ASYNC;
		cmds[MANY - 1].cmd = cmds[3].cmd;
		cmds[MANY - 1].cmd.addr = 2 * N * unit;
		nt_region_put(&ring, j->ns->dev.fd, NVME_NG_URING_CMD_IO,
			      (void *)&cmds[MANY - 1].cmd, region, 0);
		sqe = nt_array_put(&ring, j->ns->dev.fd, cmds + N, N,
				   results.ring);
		if (j->worker)
			sqe->flags |= IOSQE_ASYNC;
		nt_ring_submit(&ring);
		for (i = 0; i < 3; i++) {
			if (!nt_ring_reap(&ring, PATIENCE, &name, &res))
				nt_die("no completion");
			if (name % 3 == 1)
				nt_status(res, NVME_SC_SUCCESS);
			else
				was[name % 3 / 2] = res;
		}
		finish(j->ns, 0, N, was[0]);
		finish(j->ns, N, N, was[1]);
		/* names go on in threes */
		ring.next = 0;
		ended(0, 2 * N, &good);
		for (i = 0; i < 2 * N; i++)
			nt_same(mem + i * unit, want + place_of(j->ns, i) * unit,
				unit);
		nt_same(mem + 2 * N * unit, want + place_of(j->ns, 3) * unit,
			unit);
	}
	nt_ring_quiet(&ring);
	nt_ring_close(&ring);
	nt_status(nt_unmap(j->ns->dev.fd, region), 0);
}

/* What is wrong with a command, seen by who has no privilege. */
static void break_command(unsigned int what, struct nvme_ng_uring_cmd *cmd)
{
	switch (what) {
	case 0:
		cmd->nsid++;
		break;
	case 1:
		cmd->region += 40;
		break;
	case 2:
		cmd->addr = (__u64)pieces * unit - unit + 1;
		break;
	case 3:
		cmd->flags = 1;
		break;
	case 4:
		cmd->rsvd1 = 1;
		break;
	case 5:
		cmd->rsvd2 = 1;
		break;
	case 6:
		cmd->opcode = 0x81;
		break;
	case 7:
		cmd->region = 0;
		break;
	case 8:
		cmd->data_len = 1U << 31;
		break;
	case 9:
		cmd->metadata_len = 8;
		cmd->meta_region = 77;
		break;
	case 10:
		/* the device answers */
		cmd->cdw10 = 0xffffffff;
		cmd->cdw11 = 0xffffffff;
		break;
	case 11:
		/* more than there is memory for */
		cmd->cdw12 = 7;
		cmd->cdw3 = 8 * unit;
		break;
	case 12:
		/* nothing is wrong with it */
		cmd->timeout_ms = 40000;
		break;
	}
}

#define BROKEN	13

/* One of a few is refused, the others are not, and each as if it were alone. */
static void run_broken(void *arg)
{
	const struct job *j = arg;
	int alone[BROKEN], got[3 * BROKEN], status;
	unsigned int i;
	__u64 tag;

	memset(got, 0x7f, sizeof(got));
	start(j->ns, j->mode->setup, 64);
	for (i = 0; i < 3 * BROKEN; i++) {
		make(j->ns, i, place_of(j->ns, i), i);
		if (i % 3 == 1)
			break_command(i / 3, &cmds[i].cmd);
	}
	for (i = 0; i < BROKEN; i++) {
		struct nvme_ng_uring_cmd *cmd = &cmds[3 * i + 1].cmd;

		alone[i] = nt_region_run(&ring, j->ns->dev.fd,
					 NVME_NG_URING_CMD_IO, (void *)cmd,
					 cmd->region, cmd->meta_region);
	}
	finish(j->ns, 0, 3 * BROKEN, -EAGAIN);
	for (i = 0; i < 3 * BROKEN; i++) {
		if (!nt_results_next(&results, &tag, &status))
			nt_fail("only %u commands ended", i);
		if ((tag & 0xff) >= 3 * BROKEN || got[tag & 0xff] != 0x7f7f7f7f)
			nt_fail("command %#llx ended",
				(unsigned long long)tag);
		got[tag & 0xff] = status;
	}
	for (i = 0; i < 3 * BROKEN; i++) {
		if (i % 3 != 1) {
			nt_status(got[i], NVME_SC_SUCCESS);
			nt_same(mem + i * unit, want + place_of(j->ns, i) * unit,
				unit);
		} else if (got[i] == -EOPNOTSUPP &&
			   (i / 3 == 6 || alone[i / 3] == -EACCES)) {
			/* told to be sent alone, where not everybody may */
			continue;
		} else if (got[i] != alone[i / 3]) {
			nt_fail("fault %u: %d in an array, %d alone", i / 3,
				got[i], alone[i / 3]);
		}
	}
	nt_ring_quiet(&ring);
}

static void as_user(void (*run)(void *arg), const struct job *j)
{
	int fd = nt_open_as(&j->ns->dev, UID, O_RDONLY);
	int own = j->ns->dev.fd;

	if (fd < 0)
		nt_fail("cannot open the node: errno %d", -fd);
	j->ns->dev.fd = fd;
	run((void *)j);
	j->ns->dev.fd = own;
	close(fd);
}

/* The ring of results is full: the rest is not taken, until there is room. */
static void run_full(void *arg)
{
	const struct job *j = arg;
	unsigned int i, sent = 8, done = 0, tries = 0;
	int status, res;
	__u64 tag;

	start(j->ns, j->mode->setup, 8);
	for (i = 0; i < N; i++)
		make(j->ns, i, place_of(j->ns, i), i);
	do {
		res = take(j->ns, 0, N);
	} while (res == -EAGAIN && !usleep(10000) && tries++ < PATIENCE / 10);
	if (res > 8)
		nt_fail("%d commands taken, there was room for 8", res);
	if (res != 8)
		finish(j->ns, res, 8 - res, -EAGAIN);
	nt_status(take(j->ns, 8, N - 8), -EAGAIN);
	for (; nt_results_next(&results, &tag, &status); done++) {
		nt_status(status, NVME_SC_SUCCESS);
		if (sent < N)
			finish(j->ns, sent++, 1, -EAGAIN);
	}
	nt_eq(done, N);
	/* a program that says it has taken what there never was, or less */
	for (i = 1; i; i <<= 1) {
		__atomic_store_n(&results.head->head, results.head->tail + i,
				 __ATOMIC_RELEASE);
		nt_status(take(j->ns, 0, 1), -EAGAIN);
	}
	__atomic_store_n(&results.head->head, results.head->tail - 7,
			 __ATOMIC_RELEASE);
	nt_eq(take(j->ns, 0, 2), 1);
	nt_ring_quiet(&ring);
}

/* A handle that is none comes first, in a file that has no region. */
static void run_first(void *arg)
{
	const struct job *j = arg;
	int status = -ENOENT, fd = dup(j->ns->dev.fd);
	unsigned int i;

	start(j->ns, j->mode->setup, 128);
	for (i = 0; i < 40; i++) {
		make(j->ns, i, 0, i);
		cmds[i].cmd.region = i == 20 ? 9 : 0;
	}
	finish(j->ns, 0, 40, -EAGAIN);
	ended(0, 40, &status);
	j->ns->dev.fd = open(j->ns->dev.path, O_RDWR | O_CLOEXEC);
	nt_results_make(j->ns->dev.fd, 128, &results);
	finish(j->ns, 0, 40, -EAGAIN);
	ended(0, 40, &status);
	nt_ring_quiet(&ring);
	close(fd);
}

/* An array that fails is seen to, by what is linked and with no other CQE. */
static void run_fails(void *arg)
{
	const struct job *j = arg;
	struct io_uring_sqe *sqe;
	unsigned int name, i;
	int res;

	start(j->ns, j->mode->setup, 8);
	make(j->ns, 0, 0, 0);
	__atomic_store_n(&results.head->head, 77, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++) {
		sqe = nt_array_put(&ring, j->ns->dev.fd, cmds, 1, results.ring);
		sqe->flags |= i ? IOSQE_CQE_SKIP_SUCCESS : IOSQE_IO_LINK;
		if (!i)
			nt_region_put(&ring, j->ns->dev.fd, NVME_NG_URING_CMD_IO,
				      (void *)&cmds[0].cmd, region, 0);
		nt_ring_submit(&ring);
		nt_status(reap(), -EAGAIN);
		if (i)
			continue;
		if (!nt_ring_reap(&ring, PATIENCE, &name, &res))
			nt_die("no completion");
		nt_status(res, -ECANCELED);
	}
	nt_ring_quiet(&ring);
}

/* More than a queue takes: what was taken ends, and nothing else. */
static void run_many(void *arg)
{
	const struct job *j = arg;
	unsigned int i;

	start(j->ns, j->mode->setup, MANY);
	for (i = 0; i < MANY; i++)
		make(j->ns, i, place_of(j->ns, i), i);
	finish(j->ns, 0, MANY, -EAGAIN);
	ended(0, MANY, &good);
	for (i = 0; i < MANY; i++)
		nt_same(mem + i * unit, want + place_of(j->ns, i) * unit, unit);
	nt_ring_quiet(&ring);
}

static int run_args(const struct nt_ns *ns,
		    const struct nvme_ng_uring_array *array, bool fixed)
{
	struct io_uring_sqe *sqe = nt_array_put(&ring, ns->dev.fd, cmds, 1, 1);

	memcpy(sqe->cmd, array, sizeof(*array));
	if (fixed)
		sqe->rw_flags = 1;
	nt_ring_submit(&ring);
	return reap();
}

/* Each field that cannot be. */
static void run_refused(void *arg)
{
	const struct job *j = arg;
	const struct nvme_ng_uring_array right = {
		.addr = (uintptr_t)cmds, .nr = 1, .cmd_size = sizeof(cmds[0]),
		.ring = 1,
	};
	struct nvme_ng_uring_array a;
	struct iovec iov;
	unsigned int i;
	char *edge;

	start(j->ns, j->mode->setup, 64);
	iov.iov_base = mem;
	iov.iov_len = NT_PAGE;
	make(j->ns, 0, 0, 0);
	nt_eq(results.ring, 1);
	nt_eq(run_args(j->ns, &right, false), 1);
	ended(0, 1, &good);
#define REFUSED(error, change) do {			\
		a = right;				\
		a.change;				\
		nt_status(run_args(j->ns, &a, false), error); \
	} while (0)
	REFUSED(-EINVAL, nr = 0);
	REFUSED(-EINVAL, nr = MANY + 1);
	REFUSED(-EINVAL, cmd_size--);
	REFUSED(-EINVAL, cmd_size++);
	REFUSED(-EINVAL, flags = 1);
	for (i = 0; i < 7; i++)
		REFUSED(-EINVAL, rsvd[i] = 1ULL << 63);
	REFUSED(-ENOENT, ring = 0);
	REFUSED(-ENOENT, ring = 2);
	REFUSED(-ENOENT, ring = 64);
	REFUSED(-ENOENT, ring = 65);
	REFUSED(-ENOENT, ring = ~0U);
	REFUSED(-EINVAL, addr += 4);
	REFUSED(-EFAULT, addr = 8);
	REFUSED(-EFAULT, addr = 1ULL << 63);
	if (io_uring_register_buffers(&ring.ring, &iov, 1))
		nt_die("cannot register a buffer");
	nt_status(run_args(j->ns, &right, true), -EINVAL);
	nt_eq(results.head->tail, 1);

	/* what can be read before that cannot is taken, or not, but ends */
	edge = mmap(NULL, 2 * NT_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (edge == MAP_FAILED || munmap(edge + NT_PAGE, NT_PAGE))
		nt_die("no memory: %m");
	for (i = 0; i < 40; i++) {
		make(j->ns, i, 0, i);
		memcpy(edge + NT_PAGE - (40 - i) * sizeof(cmds[0]), &cmds[i],
		       sizeof(cmds[0]));
	}
	a = right;
	a.addr = (uintptr_t)edge + NT_PAGE - 40 * sizeof(cmds[0]);
	a.nr = 41;
	/* by pieces of 16, or 8 on a kernel of 32 bits */
	i = run_args(j->ns, &a, false);
	if (i != 32 && i != 40)
		nt_fail("%d of 40 commands taken", (int)i);
	ended(0, i, &good);
	nt_ring_quiet(&ring);
}

/* What NVME_NG_IOCTL_RING refuses. */
static int try_ring(int fd, const struct nvme_ng_ring *args)
{
	struct nvme_ng_ring r = *args;

	return ioctl(fd, NVME_NG_IOCTL_RING, &r) ? -errno : 0;
}

static void run_ioctl(void *arg)
{
	const struct job *j = arg;
	struct nvme_ng_ring right = {
		.size = sizeof(right), .entries = 64,
		.entry_size = sizeof(struct nvme_ng_ring_entry),
	}, r;
	struct {
		struct nvme_ng_ring ring;
		__u64 more;
	} longer = { };
	int fd = j->ns->dev.fd;
	struct rlimit none = { };
	unsigned int i;
	char *p;

	p = mmap(NULL, 4 * NT_PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || munmap(p + 3 * NT_PAGE, NT_PAGE) ||
	    mprotect(p + 2 * NT_PAGE, NT_PAGE, PROT_READ))
		nt_die("no memory: %m");
	right.addr = (uintptr_t)p;
#define RING(error, change) do {			\
		r = right;				\
		r.change;				\
		nt_status(try_ring(fd, &r), error);	\
	} while (0)
	RING(-EINVAL, size = sizeof(r) - 1);
	RING(-EINVAL, size = 4097);
	RING(-EINVAL, flags = 1);
	RING(-EINVAL, rsvd = 1);
	RING(-EINVAL, addr += 8);
	RING(-EINVAL, entries = 0);
	RING(-EINVAL, entries = 1);
	RING(-EINVAL, entries = 3);
	RING(-EINVAL, entries = 65537);
	RING(-EINVAL, entries = 131072);
	RING(-EINVAL, entry_size = 24);
	RING(-EFAULT, addr += 2 * NT_PAGE);
	RING(-EFAULT, addr += 3 * NT_PAGE);
	/* the last page may be read only */
	RING(-EFAULT, entries = 256);
	RING(-EFAULT, addr = 1ULL << 63);
	RING(-EFAULT, addr = 0);
	nt_status(ioctl(fd, NVME_NG_IOCTL_RING, NULL) ? -errno : 0, -EFAULT);
	longer.ring = right;
	longer.ring.size = sizeof(longer);
	longer.more = 1;
	nt_status(ioctl(fd, NVME_NG_IOCTL_RING, &longer) ? -errno : 0, -EINVAL);
	longer.more = 0;
	nt_status(ioctl(fd, NVME_NG_IOCTL_RING, &longer) ? -errno : 0, 0);
	nt_eq(longer.ring.ring, 1);
	for (i = 2; i <= 64; i++)
		nt_status(try_ring(fd, &right), 0);
	nt_status(try_ring(fd, &right), -EMFILE);
	/* of a user who may lock nothing */
	if (setrlimit(RLIMIT_MEMLOCK, &none))
		nt_die("setrlimit: %m");
	fd = nt_open_as(&j->ns->dev, UID, O_RDONLY);
	if (fd < 0)
		nt_die("cannot open the node");
	if (seteuid(UID))
		nt_die("seteuid: %m");
	nt_status(try_ring(fd, &right), -ENOMEM);
	if (seteuid(0))
		nt_die("seteuid: %m");
}

/* All pages are given back with the file, and the user's limit with them. */
static void run_pins(void *arg)
{
	const struct job *j = arg;
	int fd = nt_open_as(&j->ns->dev, UID, O_RDONLY);
	unsigned long before;
	struct nt_results r;

	if (fd < 0)
		nt_die("cannot open the node");
	nt_pins_mark();
	before = nt_pinned_kb();
	nt_results_make(fd, 1024, &r);
	/* a page and a part of one beside 32 KiB */
	nt_eq(nt_pinned_kb() - before, 36);
	close(fd);
	nt_eq(nt_pinned_kb(), before);
	nt_pins_back();
}

/* A reset of before may have left a scan, which freezes the namespace. */
static void settle(const struct nt_ns *ns)
{
	unsigned int i, calm = 0;

	for (i = 0; i < N; i++)
		make(ns, i, i % 8, i);
	for (i = 0; calm < 20; i++) {
		int res = take(ns, 0, N);

		if (res > 0)
			ended(0, res, &good);
		calm = res == N ? calm + 1 : 0;
		if (i == PATIENCE / 10)
			nt_die("arrays end with %d", res);
		usleep(10000);
	}
}

/* Commands that do not complete until they are let go. */
static void hold(const struct job *j, unsigned int n)
{
	const struct nt_fault slow = {
		.rule.opcode = NVME_CMD_READ, .rule.delay_ms = FOR_EVER,
	};
	unsigned int i;

	for (i = 0; i < n; i++)
		make(j->ns, i, i % 8, i);
	nt_faults(j->ns->ctrl.fd, &slow, 1);
	nt_array_put(&ring, j->ns->dev.fd, cmds, n, results.ring);
	nt_ring_submit(&ring);
}

static void let_go(const struct job *j)
{
	nt_faults(j->ns->ctrl.fd, NULL, 0);
	nt_raise(j->ns->ctrl.fd, NT_RAISE_WAKE);
}

/* In flight: a second queue cannot have the results, nor are they complete. */
static void run_busy(void *arg)
{
	const struct job *j = arg;
	unsigned int name, sent;
	struct nt_ring other;
	int res;

	start(j->ns, j->mode->setup, 2 * N);
	settle(j->ns);
	nt_ring_open(&other, 8, j->mode->setup ^ IORING_SETUP_IOPOLL);
	sent = results.head->tail;
	hold(j, N);
	nt_eq(results.head->tail, sent);
	nt_array_put(&other, j->ns->dev.fd, cmds, 1, results.ring);
	nt_ring_submit(&other);
	if (!nt_ring_reap(&other, PATIENCE, &name, &res))
		nt_die("no completion");
	nt_status(res, -EBUSY);
	let_go(j);
	nt_eq(reap(), N);
	ended(0, N, &good);
	/* free again */
	nt_array_put(&other, j->ns->dev.fd, cmds, 1, results.ring);
	nt_ring_submit(&other);
	if (!nt_ring_reap(&other, PATIENCE, &name, &res))
		nt_die("no completion");
	nt_eq(res, 1);
	ended(0, 1, &good);
	nt_ring_close(&other);
	nt_ring_quiet(&ring);
}

/* Results are there before all of the array has ended. */
static void run_early(void *arg)
{
	const struct job *j = arg;
	const struct nt_fault slow = {
		.rule.opcode = NVME_CMD_READ, .rule.delay_ms = FOR_EVER,
		.rule.count = htole32(1),
	};
	unsigned int i, name, sent;
	int res;

	start(j->ns, j->mode->setup, N);
	settle(j->ns);
	sent = results.head->tail;
	nt_faults(j->ns->ctrl.fd, &slow, 1);
	nt_array_put(&ring, j->ns->dev.fd, cmds, N, results.ring);
	nt_ring_submit(&ring);
	for (i = 0; __atomic_load_n(&results.head->tail, __ATOMIC_ACQUIRE) -
	     sent < N - 1; i++) {
		if (nt_ring_reap(&ring, 10, &name, &res))
			nt_fail("the array ended before its commands");
		if (i == PATIENCE / 10)
			nt_die("only %u commands ended", results.head->tail);
	}
	let_go(j);
	nt_eq(reap(), N);
	ended(0, N, &good);
	nt_ring_quiet(&ring);
}

/* A reset ends all commands of an array, each once. */
static void run_reset(void *arg)
{
	const struct job *j = arg;

	start(j->ns, j->mode->setup, 2 * N);
	settle(j->ns);
	hold(j, N);
	nt_faults(j->ns->ctrl.fd, NULL, 0);
	if (ioctl(j->ns->ctrl.fd, NVME_IOCTL_RESET))
		nt_fail("reset: errno %d", errno);
	nt_eq(reap(), N);
	ended(0, N, NULL);
	settle(j->ns);
	nt_ring_quiet(&ring);
}

/* The region is unmapped, then the ring ends, then the file is closed. */
static void run_gone(void *arg)
{
	const struct job *j = arg;
	int status = -ENOENT;
	unsigned int i, sent;

	start(j->ns, j->mode->setup, 2 * N);
	settle(j->ns);
	hold(j, N);
	nt_status(nt_unmap(j->ns->dev.fd, region), 0);
	/* those in flight have the region of before */
	nt_status(take(j->ns, 0, 1), -EAGAIN);
	let_go(j);
	nt_eq(reap(), N);
	ended(0, N, &good);
	finish(j->ns, 0, 1, -EAGAIN);
	ended(0, 1, &status);

	nt_status(nt_map(j->ns->dev.fd, 0, mem, pieces * unit, &region), 0);
	sent = results.head->tail;
	hold(j, N);
	close(j->ns->dev.fd);
	nt_eq(results.head->tail, sent);
	let_go(j);
	nt_ring_close(&ring);
	for (i = 0; i < PATIENCE && results.head->tail != sent + N; i++)
		usleep(1000);
	ended(0, N, &good);
}

static bool fits(const struct nt_ns *ns)
{
	/* what is of a length that is not known does not go this way without SGLs */
	return ns->testbed && nt_place_known(ns) &&
		nt_place_unit(ns) <= 4096 &&
		(ns->csi != NVME_CSI_ECHO || strcmp(ns->dev.serial, "NVMENG-B"));
}

static bool is_plain(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

/* Delays are asked of the controller, which others use, too. */
static bool is_held(const struct nt_ns *ns)
{
	return is_plain(ns) && !strcmp(ns->dev.serial, "NVMENG-B");
}

static bool is_small(const struct nt_ns *ns)
{
	return is_plain(ns) && ns->lba_size == 512;
}

static void run_broken_as_user(void *arg)
{
	as_user(run_broken, arg);
}

/* Rings live as long as the file. */
static void run_own(void *arg)
{
	const struct job *j = arg;

	/* of a case that failed */
	nt_faults(j->ns->ctrl.fd, NULL, 0);
	nt_raise(j->ns->ctrl.fd, NT_RAISE_WAKE);
	j->ns->dev.fd = open(j->ns->dev.path, O_RDWR | O_CLOEXEC);
	if (j->ns->dev.fd < 0)
		nt_die("%s: %m", j->ns->dev.path);
	j->run(arg);
}

static const struct {
	const char *name;
	void (*run)(void *arg);
	bool (*fits)(const struct nt_ns *ns);
	bool every_mode;
	bool worker;
} tests[] = {
	{ "data", run_data, fits, true, false },
	{ "data, worker", run_data, is_plain, true, true },
	{ "broken", run_broken, is_plain, true, false },
	{ "broken, as a user", run_broken_as_user, is_plain, false, false },
	{ "results full", run_full, is_plain, true, false },
	{ "first", run_first, is_plain, true, false },
	{ "fails", run_fails, is_plain, true, false },
	{ "many", run_many, is_small, true, false },
	{ "refused", run_refused, is_plain, false, false },
	{ "ioctl", run_ioctl, is_plain, false, false },
	{ "pins", run_pins, is_plain, false, false },
	{ "busy", run_busy, is_held, true, false },
	{ "early", run_early, is_held, true, false },
	{ "reset", run_reset, is_held, true, false },
	{ "gone", run_gone, is_held, true, false },
};

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

static unsigned int each(struct nt_ns *ns, size_t n, bool count)
{
	static struct job jobs[4096];
	unsigned int nr = 0;
	char name[128];
	size_t i, t, m;

	for (i = 0; i < n; i++)
		for (t = 0; t < ARRAY_SIZE(tests); t++)
			for (m = 0; m < NT_MODES; m++) {
				struct job *j = &jobs[nr];

				if (!tests[t].fits(&ns[i]) ||
				    (m && !tests[t].every_mode) ||
				    (strstr(nt_modes[m].name, "sqpoll") &&
				     tests[t].run != run_data))
					continue;
				snprintf(name, sizeof(name), "%s %s, %s",
					 ns[i].name, tests[t].name,
					 nt_modes[m].name);
				if (!strstr(name, only))
					continue;
				*j = (struct job){ tests[t].run, &ns[i],
						   &nt_modes[m],
						   tests[t].worker };
				nr++;
				if (!count)
					nt_test(run_own, j, "%s", name);
			}
	return nr;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test commands that are handed over in arrays.",
		.wants = "test bed",
		.fits = fits,
		.usage = "  --only=WORD  cases with WORD in their names\n",
		.option = option,
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(each(ns, n, true));
	each(ns, n, false);
	return nt_end();
}
