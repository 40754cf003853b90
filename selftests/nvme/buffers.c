// SPDX-License-Identifier: GPL-2.0
/*
 * Registered buffers come, are replaced, shared and go, also with commands in
 * flight: data is always in the memory that the buffer was when its command was
 * sent, whatever a driver keeps with buffers.
 */
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#include "ring.h"
#include "watch.h"

#define DEPTH	16
#define PIECE	(2 * NT_PAGE)		/* of each command, before metadata */
#define AREA	(DEPTH * 2 * PIECE)
#define PLACE	2			/* the first of them */

static const struct nt_mode modes[] = {
	{ "irq", 0 },
	{ "iopoll", IORING_SETUP_IOPOLL },
	{ "sqpoll", IORING_SETUP_SQPOLL },
	{ "iopoll sqpoll", IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL },
};

static struct nt_ring ring, other;

struct arg {
	struct nt_ns *ns;
	size_t nr;		/* of namespaces from there on */
	const struct nt_mode *mode;
};

/* There may be one place only, or few zones that can be open. */
static unsigned int place_of(const struct nt_ns *ns, unsigned int i)
{
	switch (ns->csi) {
	case NVME_CSI_ECHO:
		return PLACE;
	case NVME_CSI_ZNS:
		return PLACE + i % 4;
	default:
		return PLACE + i;
	}
}

static __u32 piece_of(const struct nt_ns *ns)
{
	return PIECE / (ns->lba_size ? ns->lba_size : 1) * nt_place_unit(ns);
}

static bool fits(const struct nt_ns *ns)
{
	/* metadata would be in another buffer */
	return nt_place_known(ns) && !(ns->ms && !ns->extended);
}

/* Fresh memory, at @addr if that is not NULL. */
static unsigned char *map(void *addr)
{
	void *p = mmap(addr, AREA, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | (addr ? MAP_FIXED : 0), -1,
		       0);

	if (p == MAP_FAILED)
		nt_die("no memory");
	memset(p, NT_POISON, AREA);
	return p;
}

static void want(struct nt_ns *ns, unsigned int i, unsigned char *data)
{
	unsigned int place = place_of(ns, i);

	nt_place_fill(ns, place, data, piece_of(ns), place);
}

/* Write all places, not by registered buffers. */
static void write_places(struct nt_ns *ns)
{
	unsigned char *data = nt_alloc(AREA / DEPTH, 0);
	struct nvme_uring_cmd cmd;
	unsigned int i;

	for (i = 0; i < DEPTH; i++) {
		nt_place_reset(ns, place_of(ns, i));
		want(ns, i, data);
		nt_place_cmd(ns, place_of(ns, i), true, piece_of(ns), &cmd);
		cmd.addr = (uintptr_t)data;
		cmd.data_len = piece_of(ns);
		nt_status(nt_io(ns, NT_IOCTL, &cmd, NULL), NVME_SC_SUCCESS);
	}
}

static void put(struct nt_ring *r, struct nt_ns *ns, unsigned char *mem,
		unsigned int i)
{
	struct nvme_uring_cmd cmd;

	nt_place_cmd(ns, place_of(ns, i), false, piece_of(ns), &cmd);
	cmd.addr = (uintptr_t)(mem + i * 2 * PIECE);
	cmd.data_len = piece_of(ns);
	nt_ring_put(r, ns->dev.fd, NVME_URING_CMD_IO, 0, &cmd);
}

static void send_all(struct nt_ring *r, struct nt_ns *ns, unsigned char *mem)
{
	unsigned int i;

	for (i = 0; i < DEPTH; i++)
		put(r, ns, mem, i);
	/*
	 * The buffer is found when the kernel's thread gets to the command, and
	 * what cannot be sent stops those behind it.
	 */
	do {
		nt_ring_submit(r);
		sched_yield();
	} while (io_uring_sq_ready(&r->ring));
}

static void reap_all(struct nt_ring *r, int wanted)
{
	unsigned int name;
	int res;

	while (r->flying) {
		if (!nt_ring_reap(r, 20000, &name, &res))
			nt_fail("%u commands do not complete", r->flying);
		nt_status(res < 0 ? res : res & NVME_SC_MASK, wanted);
	}
}

/* All data has arrived, and nothing else. */
static void check(struct nt_ns *ns, const unsigned char *mem)
{
	unsigned char *data = nt_alloc(2 * PIECE, 0);
	unsigned int i;

	for (i = 0; i < DEPTH; i++) {
		memset(data, NT_POISON, 2 * PIECE);
		want(ns, i, data);
		nt_same(mem + i * 2 * PIECE, data, 2 * PIECE);
	}
}

static void check_untouched(const unsigned char *mem)
{
	unsigned char *data = nt_alloc(AREA, 0);

	memset(data, NT_POISON, AREA);
	nt_same(mem, data, AREA);
}

static void start(const struct arg *a, unsigned char *mem)
{
	struct iovec iov = { mem, AREA };

	write_places(a->ns);
	nt_ring_open(&ring, 4 * DEPTH, a->mode->setup);
	nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
}

/* The buffer becomes that memory, or none. */
static void update(struct nt_ring *r, unsigned char *mem)
{
	struct iovec iov = { mem, mem ? AREA : 0 };
	__u64 tag = 0;

	nt_eq(io_uring_register_buffers_update_tag(&r->ring, 0, &iov, &tag, 1),
	      1);
}

/* The same address becomes other memory; the buffer follows when it is told. */
static void run_replaced(void *arg)
{
	const struct arg *a = arg;
	unsigned char *mem = map(NULL), *alias;

	start(a, mem);
	send_all(&ring, a->ns, mem);
	reap_all(&ring, NVME_SC_SUCCESS);
	check(a->ns, mem);

	/* keep the memory in view under another address */
	alias = mremap(mem, AREA, AREA, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	if (alias == MAP_FAILED)
		nt_die("mremap: %m");
	map(mem);
	memset(alias, NT_POISON, AREA);
	send_all(&ring, a->ns, mem);
	reap_all(&ring, NVME_SC_SUCCESS);
	check(a->ns, alias);
	check_untouched(mem);

	memset(alias, NT_POISON, AREA);
	update(&ring, mem);
	send_all(&ring, a->ns, mem);
	reap_all(&ring, NVME_SC_SUCCESS);
	check(a->ns, mem);
	check_untouched(alias);
	nt_ring_close(&ring);
	munmap(mem, AREA);
	munmap(alias, AREA);
}

/* Commands in flight keep the buffer that they were sent with. */
static void run_in_flight(void *arg)
{
	const struct arg *a = arg;
	unsigned char *mem = map(NULL), *next = map(NULL);
	unsigned int round;

	start(a, mem);
	for (round = 0; round < 8; round++) {
		send_all(&ring, a->ns, mem);
		update(&ring, next);
		send_all(&ring, a->ns, next);
		reap_all(&ring, NVME_SC_SUCCESS);
		check(a->ns, mem);
		check(a->ns, next);
		memset(mem, NT_POISON, AREA);
		memset(next, NT_POISON, AREA);
		update(&ring, mem);
	}
	nt_ring_close(&ring);
	munmap(mem, AREA);
	munmap(next, AREA);
}

/* To unregister all waits for what is in flight, which 6.12 does not poll for. */
static void run_emptied(void *arg)
{
	const struct arg *a = arg;
	unsigned char *mem = map(NULL);
	unsigned int round;

	start(a, mem);
	for (round = 0; round < 8; round++) {
		send_all(&ring, a->ns, mem);
		update(&ring, NULL);
		reap_all(&ring, NVME_SC_SUCCESS);
		check(a->ns, mem);
		send_all(&ring, a->ns, mem);
		reap_all(&ring, -EFAULT);
		/* 6.12 says of no buffer that it has the first 4 GiB */
		send_all(&ring, a->ns, (unsigned char *)NULL + AREA);
		reap_all(&ring, -EFAULT);
		memset(mem, NT_POISON, AREA);
		update(&ring, mem);
	}
	nt_eq(io_uring_unregister_buffers(&ring.ring), 0);
	send_all(&ring, a->ns, mem);
	reap_all(&ring, -EFAULT);
	check_untouched(mem);
	nt_ring_close(&ring);
	munmap(mem, AREA);
}

/* A buffer of two rings lives on with the second. */
static void run_cloned(void *arg)
{
	const struct arg *a = arg;
	unsigned char *mem = map(NULL);
	int ret;

	start(a, mem);
	nt_ring_open(&other, 4 * DEPTH, a->mode->setup);
	send_all(&ring, a->ns, mem);
	ret = io_uring_clone_buffers(&other.ring, &ring.ring);
	if (ret == -EINVAL) {
		reap_all(&ring, NVME_SC_SUCCESS);
		nt_ring_close(&ring);
		nt_ring_close(&other);
		munmap(mem, AREA);
		nt_skip("the kernel does not clone buffers");
	}
	nt_eq(ret, 0);
	send_all(&other, a->ns, mem);
	reap_all(&ring, NVME_SC_SUCCESS);
	reap_all(&other, NVME_SC_SUCCESS);
	nt_ring_close(&ring);
	memset(mem, NT_POISON, AREA);
	send_all(&other, a->ns, mem);
	reap_all(&other, NVME_SC_SUCCESS);
	check(a->ns, mem);
	nt_ring_close(&other);
	munmap(mem, AREA);
}

/* One buffer for every namespace, of whatever controller. */
static void run_shared(void *arg)
{
	const struct arg *a = arg;
	unsigned char *mem = map(NULL);
	size_t i, round;

	start(a, mem);
	for (i = 1; i < a->nr; i++)
		write_places(&a->ns[i]);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < a->nr; i++) {
			memset(mem, NT_POISON, AREA);
			send_all(&ring, &a->ns[i], mem);
			reap_all(&ring, NVME_SC_SUCCESS);
			check(&a->ns[i], mem);
		}
	}
	nt_ring_close(&ring);
	munmap(mem, AREA);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test what happens to registered buffers.",
		.wants = "suitable",
		.fits = fits,
	};
	static const struct {
		const char *name;
		void (*run)(void *arg);
	} cases[] = {
		{ "replaced", run_replaced },
		{ "replaced in flight", run_in_flight },
		{ "emptied in flight", run_emptied },
		{ "cloned", run_cloned },
	};
	struct nt_ns *ns;
	size_t i, m, c, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan((n * ARRAY_SIZE(cases) + 1) * ARRAY_SIZE(modes) + 1);
	nt_pins_mark();
	for (m = 0; m < ARRAY_SIZE(modes); m++) {
		for (i = 0; i < n; i++) {
			struct arg a = { &ns[i], 1, &modes[m] };

			for (c = 0; c < ARRAY_SIZE(cases); c++)
				nt_test(cases[c].run, &a, "%s %s %s",
					ns[i].name, modes[m].name,
					cases[c].name);
		}
		nt_test(run_shared, &(struct arg){ ns, n, &modes[m] },
			"all %s shared", modes[m].name);
	}
	nt_pins_test();
	return nt_end();
}
