// SPDX-License-Identifier: GPL-2.0
/*
 * Every active namespace of a controller has a character device that works.
 * What is active only the controller knows: its lists are compared with the
 * nodes that the kernel made.
 */
#include <stdio.h>
#include <time.h>

#include "active.h"

/* CNS 1Ch and the per command set lists go up to here */
#define MAX_CSI 0x40

int active_identify(struct nt_dev *ctrl, enum nt_via via, __u8 cns, __u8 csi,
		    __u32 nsid, void *data)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = nsid,
		.addr = (uintptr_t)data,
		.data_len = 4096,
		.cdw10 = cns,
		.cdw11 = (__u32)csi << 24,
	};

	if (via == NT_IOCTL)
		return nt_identify(ctrl->fd, cns, csi, nsid, data);
	return nt_dev_uring(ctrl, NVME_URING_CMD_ADMIN, 0, &cmd, NULL);
}

void active_list(struct active *a, enum nt_via via)
{
	unsigned char list[4096];

	nt_status(active_identify(a->ctrl, via, NVME_ID_CNS_NS_ACTIVE_LIST, 0,
				  0, list), NVME_SC_SUCCESS);
	for (a->n = 0; a->n < 1024 && nt_le32(list + 4 * a->n); a->n++)
		a->nsid[a->n] = nt_le32(list + 4 * a->n);
	if (!a->n)
		nt_fail("%s has no active namespace", a->ctrl->path);
}

/* Its node. New kernels scan in the background: give them some seconds, once. */
bool active_node(const struct active *a, __u32 nsid, struct nt_dev *node)
{
	struct timespec pause = { .tv_nsec = 100000000 };
	static int pauses = 40;

	while (!nt_find_node(a->ctrl, nsid, node)) {
		if (!pauses)
			return false;
		pauses--;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* The lists per command set hold the same, each namespace in one of them. */
static void lists(struct active *a, enum nt_via via)
{
	unsigned char list[4096];
	unsigned int i, seen = 0;
	int csi, ret;
	__u8 own;

	active_list(a, via);
	for (csi = 0; csi < MAX_CSI; csi++) {
		ret = active_identify(a->ctrl, via,
				      NVME_ID_CNS_NS_ACTIVE_LIST_CS, csi, 0,
				      list);
		/* a controller refuses the command sets that it lacks */
		if (ret == NVME_SC_INVALID_FIELD)
			continue;
		nt_status(ret, NVME_SC_SUCCESS);
		for (i = 0; i < 1024 && nt_le32(list + 4 * i); i++) {
			nt_status(nt_csi(a->ctrl->fd, nt_le32(list + 4 * i),
					 &own), NVME_SC_SUCCESS);
			nt_eq(own, csi);
			seen++;
		}
	}
	nt_eq(seen, a->n);
}

static void nodes(struct active *a, enum nt_via via)
{
	unsigned int i, missing = 0;
	struct nt_dev node;
	__u8 csi;

	active_list(a, via);
	for (i = 0; i < a->n; i++) {
		if (active_node(a, a->nsid[i], &node)) {
			nt_close(&node);
			continue;
		}
		nt_status(nt_csi(a->ctrl->fd, a->nsid[i], &csi),
			  NVME_SC_SUCCESS);
		nt_note("%s: namespace %u (CSI %02xh) has no /dev/ngXnY",
			a->ctrl->path, a->nsid[i], csi);
		missing++;
	}
	nt_eq(missing, 0);
}

/* A node says of its namespace what the controller says of it. */
static void identify(struct active *a, enum nt_via via)
{
	unsigned char want[4096], got[4096];
	struct nt_dev node;
	unsigned int i;

	active_list(a, via);
	for (i = 0; i < a->n; i++) {
		if (!active_node(a, a->nsid[i], &node))
			nt_fail("namespace %u has no node", a->nsid[i]);
		nt_status(active_identify(a->ctrl, via,
					  NVME_ID_CNS_NS_DESC_LIST, 0,
					  a->nsid[i], want), NVME_SC_SUCCESS);
		nt_status(nt_identify(node.fd, NVME_ID_CNS_NS_DESC_LIST, 0,
				      a->nsid[i], got), NVME_SC_SUCCESS);
		nt_same(got, want, sizeof(want));
		nt_close(&node);
	}
}

/* A command that changes nothing, and the status that it has. */
int active_harmless(struct nt_ns *ns, enum nt_via via, int *want)
{
	struct nvme_uring_cmd cmd = { 0 };
	struct nt_key key = { .len = 16 };

	*want = NVME_SC_SUCCESS;
	switch (ns->csi) {
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		return nt_rw(ns, via, NVME_CMD_READ, 0, 1,
			     nt_alloc(ns->lba_size + ns->ms, 0),
			     ns->ms && !ns->extended ? nt_alloc(ns->ms, 0) :
			     NULL, NULL);
	case NVME_CSI_KV:
		*want = NVME_SC_KV_NO_KEY;
		nt_fill(key.bytes, sizeof(key.bytes), 0x6e6f626f6479);
		return nt_kv(ns, via, NVME_CMD_KV_EXIST, 0, &key, NULL, 0,
			     NULL);
	case NVME_CSI_ECHO:
		cmd.opcode = NVME_CMD_ECHO_RECEIVE;
		cmd.cdw10 = 64;
		cmd.data_len = 64;
		cmd.addr = (uintptr_t)nt_alloc(64, 0);
		return nt_io(ns, via, &cmd, NULL);
	}
	nt_skip("no harmless command of CSI %02xh is known", ns->csi);
}

/* The node takes I/O commands. */
static void io(struct active *a, enum nt_via via)
{
	struct nt_dev node;
	struct nt_ns ns;
	unsigned int i;
	int want, got;

	active_list(a, via);
	for (i = 0; i < a->n; i++) {
		if (!active_node(a, a->nsid[i], &node))
			nt_fail("namespace %u has no node", a->nsid[i]);
		nt_open_ns(&ns, node.path);
		nt_close(&node);
		nt_eq(ns.nsid, a->nsid[i]);
		got = active_harmless(&ns, via, &want);
		nt_status(got, want);
		nt_close_ns(&ns);
	}
}

static const struct {
	const char *name;
	void (*run)(struct active *a, enum nt_via via);
} cases[] = {
	{ "lists", lists },
	{ "nodes", nodes },
	{ "identify", identify },
	{ "io", io },
};

struct one_run {
	size_t i;
	struct active *active;
	enum nt_via via;
};

static void run_one(void *arg)
{
	struct one_run *r = arg;

	cases[r->i].run(r->active, r->via);
}

int active_main(int argc, char **argv, const struct nt_prog *prog)
{
	static struct active active;
	struct one_run r = { .active = &active };
	struct nt_dev *ctrl;
	size_t i, n;

	nt_init(argc, argv, prog);
	ctrl = nt_controllers(&n);
	nt_plan(n * ARRAY_SIZE(cases) * NT_VIAS);
	for (i = 0; i < n; i++) {
		active.ctrl = &ctrl[i];
		for (r.i = 0; r.i < ARRAY_SIZE(cases); r.i++)
			for (r.via = 0; r.via < NT_VIAS; r.via++)
				nt_test(run_one, &r, "%s %s %s",
					ctrl[i].serial, nt_via_name(r.via),
					cases[r.i].name);
	}
	return nt_end();
}
