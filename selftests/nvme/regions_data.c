// SPDX-License-Identifier: GPL-2.0
/*
 * Random commands with data in regions, many in flight, against a model of what
 * the namespace holds: any blocks of a place, any part of a value, at random
 * offsets of memory of every kind, in one piece or in segments.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "region.h"

#define SLOTS		8
/* of each area, for each slot */
#define WINDOW		(768U << 10)
#define AREA		(SLOTS * WINDOW)
/* bytes of a place that are used, and of the versions of them */
#define PLACE		(128U << 10)
#define VERSIONS	4
#define META_WINDOW	NT_PAGE
#define GUARD		64

/**
 * struct slot - a place of the namespace, and the command that is at it
 * @now: what the place holds, or the value of its key
 * @versions: what may be written there
 * @meta: separate metadata of @now
 * @size: bytes of @now that were written
 * @name: of the command in the ring
 * @busy: there is one
 * @write: it writes
 * @at: offset of its data in the place, in bytes
 * @len: bytes of its data
 * @seg: its data in regions
 * @mem: and in memory
 * @nr: number of segments
 * @meta_at: its metadata in memory
 */
struct slot {
	unsigned char *now;
	unsigned char *versions[VERSIONS];
	unsigned char *meta;
	__u32 size;
	unsigned int name;
	bool busy;
	bool write;
	__u32 at;
	__u32 len;
	struct nvme_ng_segment seg[2 * NT_KINDS];
	unsigned char *mem[2 * NT_KINDS];
	unsigned int nr;
	unsigned char *meta_at;
};

struct target {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	unsigned int commands;
};

static struct nt_ring ring;
static struct slot slots[SLOTS];
static struct nt_area areas[NT_KINDS], meta_area;
static bool have[NT_KINDS];
static __u32 region[NT_KINDS], meta_region;
static unsigned char poison[PLACE];
static struct nvme_ng_limits lim;
static __u64 state;
/* what the namespace is like */
static __u32 unit, place;

/* xorshift64 */
static __u32 any(__u32 below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 32) % below;
}

static __u32 at_most(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

static bool is_testable(const struct nt_ns *ns)
{
	/* a model of echoes would be that of the last command */
	return ns->csi != NVME_CSI_ECHO && nt_place_known(ns);
}

static __u32 meta_len(const struct nt_ns *ns, __u32 len)
{
	return ns->extended ? 0 : len / unit * ns->ms;
}

/* Small lengths more often, all up to @max. */
static __u32 any_length(__u32 max)
{
	__u32 units = max / unit;

	if (any(32))
		units = at_most(units, unit < 64 ? 4096 : 8);
	return (1 + any(units)) * unit;
}

/*
 * Where in the windows of a slot the data is.  Where the controller has PRPs
 * alone, pieces end and begin at boundaries.
 */
static void place_data(struct slot *s, unsigned int window, unsigned int pieces)
{
	__u32 left = s->len, align = lim.dma_alignment;
	__u32 boundary = lim.virt_boundary ? lim.virt_boundary : align;
	unsigned int kind = any(NT_KINDS), i;

	s->nr = 0;
	for (i = 0; left; i++) {
		__u32 at, end, n = left;

		do {
			kind = (kind + 1) % NT_KINDS;
		} while (!have[kind]);
		at = GUARD + any(WINDOW - PLACE - NT_PAGE - 2 * GUARD);
		at -= at % (i ? boundary : align);
		if (at < GUARD)
			at += boundary;
		if (i + 1 < pieces) {
			end = at + 1 + any(left);
			end -= end % boundary;
			if (end > at)
				n = end - at;
		}
		s->seg[s->nr] = (struct nvme_ng_segment) {
			.region = region[kind],
			.len = n,
			.offset = window * WINDOW + at,
		};
		s->mem[s->nr++] = areas[kind].at + window * WINDOW + at;
		left -= n;
		/* one of no length is passed over */
		if (pieces > 1 && !any(8)) {
			s->seg[s->nr] = (struct nvme_ng_segment) {
				.region = any(70000),
			};
			s->mem[s->nr++] = areas[kind].at;
		}
	}
}

/* Put what is to be written into the memory of a slot. */
static void copy(const struct slot *s, const unsigned char *data)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		memcpy(s->mem[i], data, s->seg[i].len);
		data += s->seg[i].len;
	}
}

/* The memory of a read, and around it, before. */
static void spoil(const struct slot *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (s->seg[i].len)
			memset(s->mem[i] - GUARD, NT_POISON,
			       s->seg[i].len + 2 * GUARD);
}

static void same(const struct slot *s, const char *what,
		 const unsigned char *got, const unsigned char *want, __u32 n)
{
	__u32 i;

	if (!memcmp(got, want, n))
		return;
	for (i = 0; got[i] == want[i];)
		i++;
	nt_fail("%s of %u bytes at %u in %u segments, byte %u of %u: got %02x, expected %02x",
		what, s->len, s->at, s->nr, i, n, got[i], want[i]);
}

static void put(struct nt_ns *ns, unsigned int i)
{
	struct slot *s = &slots[i];
	struct nvme_uring_cmd cmd;
	unsigned int pieces = any(2) ? 1 : 2 + any(4), m;
	__u32 op = NVME_NG_URING_CMD_IO, skip;

	s->write = !s->size || any(2);
	s->at = 0;
	if (ns->csi == NVME_CSI_KV) {
		s->len = any_length(place);
		if (s->write)
			s->size = s->len;
	} else if (s->write && ns->csi == NVME_CSI_ZNS) {
		if (s->size == place) {
			nt_place_reset(ns, i);
			s->size = 0;
		}
		s->at = s->size;
		s->len = any_length(place - s->at);
		s->size += s->len;
	} else {
		/* all of it is written first */
		s->len = s->size ? any_length(place) : place;
		if (s->size)
			s->at = any((s->size - 1) / unit + 1) * unit;
		s->len = at_most(s->len, (s->size ? s->size : place) - s->at);
		if (s->write)
			s->size = place;
	}
	place_data(s, i, pieces);
	nt_place_cmd(ns, i, s->write, s->len, &cmd);
	skip = s->at / unit;
	if (ns->csi != NVME_CSI_KV) {
		cmd.cdw10 += skip;
		if (ns->pi)
			cmd.cdw14 += skip;
	}
	m = meta_len(ns, s->len);
	s->meta_at = meta_area.at + i * META_WINDOW;
	if (m) {
		s->meta_at += any((META_WINDOW - m) / 4 + 1) * 4;
		cmd.metadata = s->meta_at - meta_area.at;
		cmd.metadata_len = m;
	}
	if (s->write) {
		memcpy(s->now + s->at, s->versions[any(VERSIONS)] + s->at,
		       s->len);
		copy(s, s->now + s->at);
		if (m) {
			nt_fill(s->meta + skip * ns->ms, m, state);
			memcpy(s->meta_at, s->meta + skip * ns->ms, m);
		}
	} else {
		spoil(s);
		memset(s->meta_at, NT_POISON, m);
	}
	cmd.addr = s->seg[0].offset;
	cmd.data_len = s->len;
	if (pieces > 1) {
		op = NVME_NG_URING_CMD_IO_VEC;
		cmd.addr = (uintptr_t)s->seg;
		cmd.data_len = s->nr;
	}
	s->name = ring.next;
	s->busy = true;
	nt_region_put(&ring, ns->dev.fd, op, &cmd,
		      pieces > 1 ? 0 : s->seg[0].region, m ? meta_region : 0);
}

static void check(struct nt_ns *ns, struct slot *s, int res)
{
	const unsigned char *want = s->now + s->at;
	__u32 valid = s->len, n;
	unsigned int i;

	s->busy = false;
	if (res < 0 || res & NVME_SC_MASK)
		nt_fail("%s of %u bytes at %u in %u segments: %s %#x",
			s->write ? "write" : "read", s->len, s->at, s->nr,
			res < 0 ? "errno" : "status", res < 0 ? -res : res);
	if (s->write)
		return;
	/* a value may be shorter than the memory for it */
	if (ns->csi == NVME_CSI_KV)
		valid = at_most(valid, s->size);
	for (i = 0; i < s->nr; i++) {
		if (!s->seg[i].len)
			continue;
		n = at_most(valid, s->seg[i].len);
		same(s, "read", s->mem[i], want, n);
		same(s, "behind the value", s->mem[i] + n, poison,
		     s->seg[i].len - n);
		same(s, "before the read", s->mem[i] - GUARD, poison, GUARD);
		same(s, "behind the read", s->mem[i] + s->seg[i].len, poison,
		     GUARD);
		want += n;
		valid -= n;
	}
	same(s, "metadata", s->meta_at, s->meta + s->at / unit * ns->ms,
	     meta_len(ns, s->len));
}

static void run(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	unsigned int i, v, name, done = 0, sent = 0;
	__u32 granule, kind;
	int res;

	nt_status(nt_limits(ns->dev.fd, &lim), 0);
	unit = nt_place_unit(ns);
	place = at_most(nt_place_max(ns), PLACE) / unit * unit;
	for (kind = 0; kind < NT_KINDS; kind++)
		if (have[kind])
			nt_status(nt_map_area(ns->dev.fd, &areas[kind], 0,
					      &region[kind], &granule), 0);
	nt_status(nt_map_area(ns->dev.fd, &meta_area, 0, &meta_region,
			      &granule), 0);
	for (i = 0; i < SLOTS; i++) {
		slots[i].busy = false;
		slots[i].size = 0;
		for (v = 0; v < VERSIONS; v++)
			nt_place_fill(ns, i, slots[i].versions[v], place,
				      state + v);
		nt_place_reset(ns, i);
	}
	while (done < t->commands) {
		for (i = 0; i < SLOTS; i++) {
			if (slots[i].busy || sent == t->commands)
				continue;
			put(ns, i);
			sent++;
		}
		nt_ring_submit(&ring);
		if (!nt_ring_reap(&ring, 60000, &name, &res))
			nt_die("%u commands did not complete within 60 s",
			       ring.flying);
		do {
			for (i = 0; !slots[i].busy || slots[i].name != name;)
				i++;
			check(ns, &slots[i], res);
			done++;
		} while (ring.flying && nt_ring_reap(&ring, 0, &name, &res));
	}
	nt_ring_quiet(&ring);
}

static unsigned int commands = 100000;
static __u64 seed = 1;

static bool option(const char *arg)
{
	if (!strncmp(arg, "--commands=", 11))
		commands = strtoul(arg + 11, NULL, 0);
	else if (!strncmp(arg, "--seed=", 7))
		seed = strtoull(arg + 7, NULL, 0);
	else
		return false;
	return commands && seed;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test data in regions with random commands.",
		.wants = "known",
		.fits = is_testable,
		.usage = "  --commands=N  commands in all, default 100000\n"
			 "  --seed=N      of the random numbers, default 1",
		.option = option,
	};
	unsigned int i, v, kind, m;
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	for (kind = 0; kind < NT_KINDS; kind++)
		have[kind] = nt_area_make(kind, AREA, &areas[kind]);
	/* neighbours in memory, so that metadata may lie anywhere */
	nt_area_make(NT_THP, NT_HUGE, &meta_area);
	memset(poison, NT_POISON, sizeof(poison));
	for (i = 0; i < SLOTS; i++) {
		slots[i].now = malloc(PLACE);
		slots[i].meta = malloc(PLACE);
		for (v = 0; v < VERSIONS; v++)
			slots[i].versions[v] = malloc(PLACE);
	}
	nt_plan(n * NT_MODES);
	for (i = 0; i < n; i++) {
		for (m = 0; m < NT_MODES; m++) {
			struct target t = {
				.ns = &ns[i],
				.mode = &nt_modes[m],
			};
			int saved = ns[i].dev.fd;
			/*
			 * A thread that submits takes a processor for itself:
			 * one share for each of the two modes with one, four
			 * for each of the others.
			 */
			unsigned int share =
				t.mode->setup & IORING_SETUP_SQPOLL ? 1 : 4;

			t.commands = commands / (n * 18) * share + 1;
			state = seed * 0x9e3779b97f4a7c15 + i * NT_MODES + m;
			/* what a case that failed leaves ends with its file */
			ns[i].dev.fd = open(ns[i].dev.path, O_RDWR | O_CLOEXEC);
			nt_ring_open(&ring, 64, t.mode->setup);
			nt_test(run, &t, "%s %s, %u commands", ns[i].name,
				t.mode->name, t.commands);
			nt_ring_close(&ring);
			close(ns[i].dev.fd);
			ns[i].dev.fd = saved;
		}
	}
	return nt_end();
}
