// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: the block format of a namespace, by which commands are judged.
 *
 * A controller that takes Physical Region Pages, or separate metadata, is not
 * told how much memory there is.  How much a command moves follows from its
 * number of blocks and the format of the namespace.  So the format must be the
 * one that the controller has when it fetches the command.
 *
 * The format of a namespace is one word.  A scan writes it, from Identify data
 * that was read since the last command that can change a format.  Such a
 * command finds no other one in flight in the whole NVM subsystem, and leaves
 * the word of each namespace empty before it lets others in again.
 */
#include <linux/blk-mq.h>
#include <linux/device.h>
#include <linux/log2.h>
#include "ng.h"

/* most that is kept for commands without a metadata buffer, bytes */
#define NVME_NG_SCRATCH_MAX	SZ_4M

/* Key Value Command Set specification, Identify Namespace data structure */
#define NVME_NG_KV_FORMAT	29
#define NVME_NG_KV_FORMATS	72
#define NVME_NG_KV_FORMAT_SIZE	16

/* held to write formats, and to count how often they were forgotten */
static DEFINE_SPINLOCK(nvme_ng_format_lock);
static u32 nvme_ng_forgotten;

static struct nvme_ng_ns *nvme_ng_ns(struct nvme_ns *ns)
{
	return container_of(ns, struct nvme_ng_ns, ns);
}

/**
 * nvme_ng_alloc_ns - allocate a namespace with what this driver keeps of it
 * @node: NUMA node
 *
 * Return: the namespace, all zero, to be freed with kfree(), or NULL.
 */
struct nvme_ns *nvme_ng_alloc_ns(int node)
{
	struct nvme_ng_ns *p;

	/* the namespace is the first member: kfree() takes its address */
	BUILD_BUG_ON(offsetof(struct nvme_ng_ns, ns));
	p = kzalloc_node(sizeof(*p), GFP_KERNEL, node);
	return p ? &p->ns : NULL;
}

/* Limits of keys and values, 0 where the controller does not tell. */
static void nvme_ng_read_kv(struct nvme_ns *ns)
{
	struct nvme_command c = {
		.identify.opcode	= nvme_admin_identify,
		.identify.nsid		= cpu_to_le32(ns->head->ns_id),
		.identify.cns		= NVME_ID_CNS_CS_NS,
		.identify.csi		= NVME_NG_CSI_KV,
	};
	struct nvme_ng_ns *p = nvme_ng_ns(ns);
	u8 *id, *fmt;

	id = kzalloc(NVME_IDENTIFY_DATA_SIZE, GFP_KERNEL);
	if (!id)
		return;
	if (!nvme_submit_sync_cmd(ns->ctrl->admin_q, &c, id,
				  NVME_IDENTIFY_DATA_SIZE)) {
		fmt = id + NVME_NG_KV_FORMATS +
			(id[NVME_NG_KV_FORMAT] & 0xf) * NVME_NG_KV_FORMAT_SIZE;
		WRITE_ONCE(p->max_key_len, le16_to_cpup((__le16 *)fmt));
		WRITE_ONCE(p->max_value_len, le32_to_cpup((__le32 *)(fmt + 4)));
	}
	kfree(id);
}

/**
 * nvme_ng_format_begin - a scan is about to identify a namespace
 * @ns: the namespace
 *
 * Process context, sleeps; scans of a namespace do not overlap.
 */
void nvme_ng_format_begin(struct nvme_ns *ns)
{
	struct nvme_ng_ns *p = nvme_ng_ns(ns);

	switch (ns->head->ids.csi) {
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		p->read_from = READ_ONCE(nvme_ng_forgotten);
		break;
	case NVME_NG_CSI_KV:
		nvme_ng_read_kv(ns);
		fallthrough;
	default:
		/* the command says how much it moves, or nobody does */
		WRITE_ONCE(p->format, NVME_NG_FORMAT_KNOWN);
		break;
	}
}

static void nvme_ng_scratch_release(struct device *dev, void *res)
{
	struct nvme_ng_scratch *s = res;

	if (s->zeros)
		dma_free_coherent(dev, s->len, s->zeros, s->zeros_dma);
	if (s->sink)
		dma_free_coherent(dev, s->len, s->sink, s->sink_dma);
}

static int nvme_ng_scratch_match(struct device *dev, void *res, void *data)
{
	struct nvme_ng_scratch *s = res;

	return s->len >= *(u32 *)data;
}

/* Memory of @len bytes for metadata that no program wants, or NULL. */
static struct nvme_ng_scratch *nvme_ng_get_scratch(struct device *dev, u32 len)
{
	static DEFINE_MUTEX(lock);	/* namespaces are scanned side by side */
	struct nvme_ng_scratch *s;

	len = min_t(u32, roundup_pow_of_two(len), NVME_NG_SCRATCH_MAX);
	mutex_lock(&lock);
	s = devres_find(dev, nvme_ng_scratch_release, nvme_ng_scratch_match,
			&len);
	if (s)
		goto out;
	s = devres_alloc(nvme_ng_scratch_release, sizeof(*s), GFP_KERNEL);
	if (!s)
		goto out;
	s->len = len;
	s->zeros = dma_alloc_coherent(dev, len, &s->zeros_dma,
				      GFP_KERNEL | __GFP_NOWARN);
	s->sink = dma_alloc_coherent(dev, len, &s->sink_dma,
				     GFP_KERNEL | __GFP_NOWARN);
	if (s->zeros && s->sink) {
		devres_add(dev, s);
	} else {
		nvme_ng_scratch_release(dev, s);
		devres_free(s);
		s = NULL;
	}
out:
	mutex_unlock(&lock);
	return s;
}

/*
 * Is the metadata of a block no more than its protection information?  Then the
 * controller inserts and strips it where PRACT says so.
 */
static bool nvme_ng_all_pi(const struct nvme_id_ns *id,
			   const struct nvme_id_ns_nvm *nvm, unsigned int lbaf)
{
	u16 ms = le16_to_cpu(id->lbaf[lbaf].ms);
	u32 elbaf = nvm ? le32_to_cpu(nvm->elbaf[lbaf]) : 0;

	if (!(id->dps & NVME_NS_DPS_PI_MASK))
		return false;
	/* 16 bytes unless it is the 16b Guard format */
	return ms == ((elbaf >> NVME_ID_NS_NVM_GUARD_SHIFT) &
		      NVME_ID_NS_NVM_GUARD_MASK ? 16 : 8);
}

/**
 * nvme_ng_format_read - a scan has identified a namespace with blocks
 * @ns: the namespace, after nvme_ng_format_begin()
 * @id: Identify Namespace data structure, NVM Command Set
 * @nvm: I/O Command Set Specific Identify Namespace data structure, or NULL
 *
 * The format is the same through each controller that has the namespace.
 * Process context, sleeps.
 */
void nvme_ng_format_read(struct nvme_ns *ns, const struct nvme_id_ns *id,
			 const struct nvme_id_ns_nvm *nvm)
{
	unsigned int lbaf = nvme_lbaf_index(id->flbas);
	u16 ms = le16_to_cpu(id->lbaf[lbaf].ms);
	struct nvme_ns_head *head = ns->head;
	u8 shift = id->lbaf[lbaf].ds;
	struct nvme_ns *path;
	u32 word, len;
	int srcu;

	word = NVME_NG_FORMAT_KNOWN | shift << NVME_NG_FORMAT_SHIFT |
		(u32)ms << NVME_NG_FORMAT_MS;
	if (id->flbas & NVME_NS_FLBAS_META_EXT)
		word |= NVME_NG_FORMAT_EXT;
	if (nvme_ng_all_pi(id, nvm, lbaf))
		word |= NVME_NG_FORMAT_PI;

	srcu = srcu_read_lock(&head->srcu);
	list_for_each_entry_srcu(path, &head->list, siblings,
				 srcu_read_lock_held(&head->srcu)) {
		len = nvme_ng_max_metadata(path, word);
		if (len && nvme_ng_is_direct(path->ctrl))
			WRITE_ONCE(nvme_ng_ns(path)->scratch,
				   nvme_ng_get_scratch(path->ctrl->dev, len));
	}
	spin_lock(&nvme_ng_format_lock);
	/* otherwise what was identified may be no longer true */
	if (nvme_ng_ns(ns)->read_from == nvme_ng_forgotten)
		list_for_each_entry_srcu(path, &head->list, siblings,
					 srcu_read_lock_held(&head->srcu))
			WRITE_ONCE(nvme_ng_ns(path)->format, word);
	spin_unlock(&nvme_ng_format_lock);
	srcu_read_unlock(&head->srcu, srcu);
}

/*
 * Can a command with these effects change what a length depends on?  NVM
 * Express Base specification, Commands Supported and Effects log page
 */
static bool nvme_ng_changes_format(u32 effects)
{
	return effects & (NVME_CMD_EFFECTS_NCC | NVME_CMD_EFFECTS_NIC |
			  NVME_CMD_EFFECTS_CCC);
}

static void nvme_ng_forget_formats(struct nvme_subsystem *subsys)
{
	struct nvme_ns_head *head;
	struct nvme_ns *ns;

	spin_lock(&nvme_ng_format_lock);
	nvme_ng_forgotten++;
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(ns, &head->list, siblings)
			WRITE_ONCE(nvme_ng_ns(ns)->format, 0);
	spin_unlock(&nvme_ng_format_lock);
}

/**
 * nvme_ng_admin_effects - effects that a controller may forget to tell
 * @opcode: of an admin command
 *
 * Return: more bits of the Commands Supported and Effects log page.
 */
unsigned int nvme_ng_admin_effects(unsigned char opcode)
{
	switch (opcode) {
	case nvme_admin_ns_mgmt:
	case nvme_admin_ns_attach:
	case nvme_admin_nvme_mi_send:	/* which may carry any of them */
		return NVME_CMD_EFFECTS_NCC | NVME_CMD_EFFECTS_NIC;
	default:
		return 0;
	}
}

/**
 * nvme_ng_effects_begin - part of nvme_passthru_start()
 * @ctrl: controller that gets the command
 * @ns: namespace of an I/O command, whose request is allocated, or NULL
 * @effects: of the command
 *
 * When this returns no command that was judged by a format that @effects can
 * change is in flight on any controller of the NVM subsystem, and none gets in
 * before nvme_ng_effects_end().  An I/O command cannot wait for its own queue:
 * after that no format is known, but what is in flight stays there.
 *
 * &nvme_subsystem.lock is held from here to nvme_ng_effects_end(), unless
 * nvme_passthru_start() has it already, so that no namespace comes or goes.
 */
void nvme_ng_effects_begin(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			   unsigned int effects)
{
	struct nvme_subsystem *subsys = ctrl->subsys;
	struct nvme_ns_head *head;
	struct nvme_ns *other;

	if (!nvme_ng_changes_format(effects))
		return;
	if (!(effects & NVME_CMD_EFFECTS_CSE_MASK))
		mutex_lock(&subsys->lock);
	if (ns) {
		nvme_ng_forget_formats(subsys);
		mutex_unlock(&subsys->lock);
		return;
	}
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings)
			nvme_ng_freeze_start(other->queue);
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings)
			blk_mq_freeze_queue_wait(other->queue);
	nvme_ng_forget_formats(subsys);
}

/**
 * nvme_ng_effects_end - part of nvme_passthru_end(), which comes first
 * @ctrl: as for nvme_ng_effects_begin()
 * @ns: the same
 * @effects: the same
 *
 * Formats are unknown until a controller of the NVM subsystem has scanned its
 * namespaces, for which this asks.
 */
void nvme_ng_effects_end(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			 unsigned int effects)
{
	struct nvme_subsystem *subsys = ctrl->subsys;
	struct nvme_ns_head *head;
	struct nvme_ns *other;

	if (!nvme_ng_changes_format(effects))
		return;
	if (ns)
		mutex_lock(&subsys->lock);
	/* another controller may have identified one meanwhile */
	nvme_ng_forget_formats(subsys);
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings) {
			nvme_queue_scan(other->ctrl);
			if (!ns)
				nvme_ng_unfreeze(other->queue);
		}
	if (!(effects & NVME_CMD_EFFECTS_CSE_MASK))
		mutex_unlock(&subsys->lock);
}
