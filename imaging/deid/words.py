"""Words that a description may keep: anatomy, findings, technique, orientation, units.  All others may be a name.

Taken from the concepts of PS3.16 (the dictionary pydicom carries) and from the names of DICOM attributes, plus the
short forms that scanners and radiographers write.  Of a concept's name only words in lower case count: there a
capital inside a phrase marks an eponym, which is somebody's name.
"""

from __future__ import annotations

import functools
import re

from pydicom.datadict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

from imaging.deid.vocabulary import BODY_PARTS, MANUFACTURERS

_WORD = re.compile(r"[A-Za-z]{2,}")

# Words of the sources that are also common names of people or places, or that say who or where.
_NAMES = frozenset(
    """
    ann art baker ball banks barber bass bath bay bell berry best bill bishop black blue bond booth brown bush
    butler carpenter carter chad chase church cook cooper cross curry day dean drew east fields fisher flint
    ford forest fox frank frost gale gardener glass gold golden grace grant gray green grey grove guy hall hardy
    harper heather herd hill holly hope hunt hunter iris ivy jack jasper jean joy kay king knight lake lamb lane
    lee little long low major mark marsh mason may miles mills moon moss north olive page palmer parks peace pearl
    pierce pike pipe pond pool pope potter price ray reed reef rich rivers robin rod rose ross royal ruby rush
    sharp shepherd short silver singer small snow south spring sterling stern stone strong summer swan swift
    taylor temple terry tracy turner violet wade walker wall ward waters weaver webb weeks west wheat white wise
    wolf wood woods young
    ltd md mr mrs ms prof street surgery trust university
    """.split()
)

# Technique words that are also in the list above: a scanner writes them far more often than a person bears them.
_TECHNIQUE_AFTER_ALL = frozenset(
    """
    ball black blue chest cross day east fields green grey gray long low short small sharp spring wall white
    north south west strong
    """.split()
)

_SHORT_FORMS = frozenset(
    """
    a abd abdo abdomen abdominal abdpel abdpelvis ac acl acq adc add additional af after all and angio angiogram
    angiography ankle ant anterior ao aorta aortic ap apex ard arm art arterial artery asl asset at atrium avg ax
    axial axials axl b balance ball baseline bffe bh bilat bilateral black blade blood bmode body bold bolus bone
    bones bony brain brainlab breast breath breathhold bright bronchus bw c calc calf cap cardiac care carotid cav
    cbct cbf cbv cc cerebellum cervical chest cine ciss clip cm coil col color colour combined comp complete cont
    contrast cor coro coronal coronary coronals corrected cr cranial craniocaudal cranium csf cspine ct cta ctac
    ctpa ctv cube cubes cuts cxr d dce deep default delay delayed delays dess diag diagnostic diff diffusion digital dir
    dixon dl dlp dose dorsal dorsalis drawn dti dual duodenum dwi dx dynamic e ecg echo eff elbow enh enhanced enhancement ep
    epi epidural erect exam exp expiration expiratory ext extension extremity f face fast fat fatsat fb fem femoral
    femur ffe fgre fiesta film filter fine first fisp flair flash flex flexion flow fluoro fluoroscopy fmri foot
    foramen forearm fov fp fractions frame frames free frontal fs fse fspgr full fullbody fundus fused fusion fx g gad gadolinium
    gated gd general gluteal gre grad gradient grid gs gtv guided h half hand hard hase haste hd head headneck
    heart helical hepatic hepatobiliary hi high hip hips hr hrct ht hu humerus hyper iac ica if image images imaging in
    infant inf inferior inj injection inner insp inspiration inspiratory inv inversion ir iso isotropic itv iv ivc
    ivim j joint jet k kidney kidneys km knee knees kub kv kvp l l2r la lao large lat lateral lateralis lava left leg
    legs lesion level limb limited line liver ll lm lmlo lo loc localiser localizer long low lower lcc lpo ls lspine
    lul lumbar lung lungs lut lv lymph m ma mag magnitude mammo mammogram mandible mandibular map maps mas mask max maxilla
    maximum mdc me mean med medial mediastinal mediastinum medium mg min minimum mip mips ml mlo mm moco mode model
    monitoring motion mp mpr mprage mr mra mrcp mri mrv mrs ms mt mtc mtt multi multiphase muscle myelo myocardial n
    native navi nasal nc ncct neck neg nerve neuro nm no node non noncontrast norm normal nuc number o oblique obl on opt oral orbit
    orbits out outer ovary p pa parallel parasag part pass pat pc pd pdw pelvic pelvis pelv perf perfusion pet petct
    phase phantom pht pineal pituitary plain plan planning plus port portable portal pos post posterior postcontrast pre
    precontrast premedial prep preview primary prone prop propeller prostate protocol proximal ps pt ptv pulm pulmonary
    pv q qc qa quant quick r rad radial radiograph ramp rao raw rcc recon reconstruction reconstructed rectal rectum ref
    reformat reformats reformatted rel renal rep repeat resolution resp resting restore results right rl rml rmlo rotate rotated
    rotation routine rpo rt run s sag sagittal sag sat sc scan scanogram scapula scout screen screening se seconds sense
    seq sequence series set sfov sharp short shoulder si sinus sinuses single siw sl slab slice slices smart smooth soft
    space spacing spair spectral spgr spin spinal spine spir spiral spleen spoiled ss ssfse standard standing start stat
    stealth step sternum stir stress study sub subtraction sum sup super superior supine surview surveillance survey
    swi swan sx sw t t1 t2 t2star ta tag tagged tc tce te temp temporal test tfe thick thickness thigh thin thorax
    thoracic thyroid tibia tilt time tir tirm tof tomo tomography tomosynthesis top topogram tp tr trace tra tracer transverse
    trans treatment tri trigger trig triggered true trufi trufisp tse tspine tumor tumour turbo tv twist u ultrafast ultrasound
    unenhanced upper uptake ureter urogram us uterus v va vaginal val vascular vein ven venous ventral ventricle vert
    vertebral vessel vessels vibe view views vol volume vrt w water wb weighted weight wf wholebody wi width wide
    window with without wo work wrist x xa xr xray y z zoom
    adrenal aneurysm appendix biopsy bowel bladder cancer carcinoma chronic acute colon colonography cyst disease
    effusion embolism fracture hernia infarct ischaemia ischemia mass metastasis metastases nodule nodules oncology
    patient pneumonia pneumothorax stroke suspected trauma follow up followup query rule history evaluate known
    isovue omnipaque omniscan visipaque ultravist iomeron iopamidol iohexol gadovist gadavist dotarem clariscan magnevist
    prohance multihance primovist eovist optiray niopam gastrografin sonovue definity lumason fdg psma dotatate
    hospital clinic room name address heading
    previous prior new old change changes compare comparison interval small large mild moderate severe left sided
    """.split()
)


@functools.cache
def safe_words() -> frozenset[str]:
    """All words, in lower case."""
    words: set[str] = set()
    for scheme in concepts.values():
        for meanings in scheme.values():
            for meaning, _ in meanings.values():
                words.update(word for word in _WORD.findall(meaning) if word.islower())
    for _, _, name, _, _ in DicomDictionary.values():
        # Possessives tell whose the thing is and are no part of the name of a kind of thing.
        words.update(word.lower() for word in _WORD.findall(name.replace("'s", "")))
    words -= _NAMES - _TECHNIQUE_AFTER_ALL
    words |= {part.lower() for part in BODY_PARTS} | _SHORT_FORMS
    words |= {word.lower() for _, maker in MANUFACTURERS for word in _WORD.findall(maker)}
    return frozenset(words)


_UNIT = r"(?:mm|cm|ms|s|sec|min|kv|kvp|mas|ma|ml|t|x|d|deg|hu|mci|mbq|kg|phase|ph|st|nd|rd|th|bpm|fps|hz|khz|mhz|mpr|w|yr|g|ch|p)"
_ROOT = (
    r"(?:t1|t2|t2star|pd|fl|tse|fse|se|gre|ep|epi|tfl|tfi|tir|spc|vibe|mpr|mprage|2d|3d|4d|fs|wi|w|ax|sag|cor|tra|"
    r"ir|me|dwi|adc|flair|stir|b|st|ns|iso|pre|post|ce|wo|nc|bh|fb|ld|hr)"
)
_NUMBERED = re.compile(r"([a-z]{3,})[0-9]{1,3}")
_TECHNICAL = re.compile(
    rf"[0-9]{{1,3}}|0[0-9]{{3}}|[0-9]{{1,4}}{_UNIT}|[0-9]{{1,3}}(?:x[0-9]{{1,3}}){{1,2}}|"
    rf"(?:b|te|tr|ti|fa|se|im|kv|br|hr|ph|p|rev|sl|wl|ww)[0-9]{{1,4}}|[a-z][0-9]{{1,2}}[a-z]?|"
    rf"(?:{_ROOT}|[0-9]{{1,2}}){{1,6}}"
)


def is_safe(token: str) -> bool:
    """Whether a run of letters and digits says something technical and can be nobody's name or number."""
    word = token.lower()
    if len(word) > 40 or not word.isascii():
        return False
    if word.isdigit():
        return len(word) <= 3
    if word in safe_words() or _TECHNICAL.fullmatch(word) is not None:
        return True
    numbered = _NUMBERED.fullmatch(word)
    if numbered is not None:
        return numbered.group(1) in safe_words()
    return word.endswith("s") and len(word) > 4 and word[:-1] in safe_words()
