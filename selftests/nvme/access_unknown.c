// SPDX-License-Identifier: GPL-2.0
/*
 * Where nobody knows what a command does it is root's: a namespace whose
 * command set has no Commands Supported and Effects log.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "active.h"

static bool has_no_effects(const struct nt_ns *ns)
{
	__u32 iocs[256];

	return nt_effects(ns->ctrl.fd, ns->csi, iocs) == NVME_SC_INVALID_FIELD;
}

struct as_user {
	struct nt_ns ns;
	enum nt_via via;
};

static void refused(void *arg)
{
	struct as_user *u = arg;
	int want;

	nt_status(active_harmless(&u->ns, u->via, &want), -EACCES);
}

/* The owner of the node may open it, but not send commands. */
static void as_tester(struct nt_ns *ns, enum nt_via via)
{
	struct as_user u = { .ns = *ns, .via = via };
	int fd = nt_open_as(&ns->dev, NT_TESTER, O_RDWR);

	if (fd < 0)
		nt_status(fd, 0);
	u.ns.dev.fd = fd;
	u.ns.dev.has_ring = false;
	nt_as(NT_TESTER, refused, &u);
	close(fd);
}

static void as_root(struct nt_ns *ns, enum nt_via via)
{
	int want, got = active_harmless(ns, via, &want);

	nt_status(got, want);
}

static const struct nt_case cases[] = {
	{ "refused_as_tester", as_tester },
	{ "works_as_root", as_root },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test who may use a namespace without an effects log.",
		.wants = "effects-less",
		.fits = has_no_effects,
		.serial = "NVMENG-C",
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
